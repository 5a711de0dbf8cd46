// Owns the instructions of a step and what a step brings: plain structures that Python fills in. Knows no arithmetic.
//
// A program is an array of `Op`. Every buffer has room for the most tokens of a step; `Step` says how many there are.
#pragma once

#include <cstdint>

namespace fastserve {

enum OpKind : int32_t {
    kEmbed = 0,       // target(float)[tokens, stride] = scale * weight[token_ids]
    kNorm = 1,        // target(T)[rows, stride] = norm(source(float)); of the wanted rows only with kWantedRows
    kLinear = 2,      // target = epilogue(source(T) @ weight + bias)
    kRotateWrite = 3, // queries and keys of source(float) normed and rotated; keys and values into the cache
    kAttend = 4,      // target(T)[tokens, heads * dim] = attention of source(T) over the cache
    kNormAdd = 5,     // target(float) += norm(source(float))
    kAdd = 6,         // target(float) += source(float)
    kCap = 7,         // target(float)[rows] = softcap * tanh(target / softcap)
};

enum OpFlags : int32_t {
    kWantedRows = 1,  // the rows whose logits are wanted, instead of all tokens
    kLayerNorm = 2,   // mean and variance instead of the root of the mean square
};

enum Epilogue : int32_t {
    kStore = 0,       // float
    kAccumulate = 1,  // float, added to what is there
    kActivate = 2,    // T, activation(x)
    kGate = 3,        // T, activation(gate) * up; panels of gate and up alternate
};

enum Activation : int32_t { kSilu = 0, kGeluTanh = 1, kGelu = 2, kRelu = 3 };

struct Op {
    int32_t kind, flags, epilogue, activation;
    const void* source;
    void* target;
    void* queries;            // kRotateWrite: where they go, as T
    const void* weight;       // packed for kLinear, the table for kEmbed, float for norms
    const float* bias;
    const float* query_norm;  // kRotateWrite: weights, null where queries are not normed
    const float* key_norm;
    const float* cosines;     // [positions, rotary_dim / 2]
    const float* sines;
    void* cache;              // this layer's keys and values
    int32_t n, k;             // kLinear: outputs and inputs, padded with zeros to multiples of 32
    int32_t source_stride, target_stride;  // in elements
    int32_t num_heads, num_kv_heads, head_dim, rotary_dim;
    int32_t window;           // kAttend: how many tokens a query sees, itself included; 0: all before it
    float epsilon, scale, softcap;
    int32_t width;            // of the rows that norms, sums and caps work on, before padding
};

struct Step {
    int32_t num_tokens, num_rows, num_chunks, block_size;
    const int32_t* token_ids;   // [num_tokens]
    const int32_t* positions;   // [num_tokens]
    const int32_t* slots;       // [num_tokens], block * block_size + offset
    const int32_t* rows;        // [num_rows]
    const int32_t* starts;      // [num_chunks]
    const int32_t* lengths;     // [num_chunks]
    const int32_t* first_rows;  // [num_chunks], of each chunk's first token in the step
    const int32_t* tables;      // block tables, one after the other
    const int32_t* first_blocks;  // [num_chunks], where each one's table begins
};

inline int num_rows_of(const Op& op, const Step& step) {
    return op.flags & kWantedRows ? step.num_rows : step.num_tokens;
}

}  // namespace fastserve
