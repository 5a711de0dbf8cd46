// Runs programs: the whole of a step, or the part between two all-reduces, in one parallel region. The C interface.

#include "program.h"

#include "attention.h"
#include "choice.h"
#include "linear.h"
#include "norm.h"

namespace fastserve {
namespace {

template <class T>
void run_op(const Op& op, const Step& step, const std::vector<QueryTile>& tiles) {
    switch (op.kind) {
        case kEmbed: return embed<T>(op, step);
        case kNorm: return norm<T>(op, step);
        case kLinear: return linear<T>(op, num_rows_of(op, step));
        case kRotateWrite: return rotate_write<T>(op, step);
        case kAttend: return attend<T>(op, step, tiles);
        case kNormAdd: return norm_add(op, step);
        case kAdd: return add(op, step);
        case kCap: return cap(op, step);
    }
}

// The heads of all layers of a rank are alike, so that one division into tiles serves them all.
std::vector<QueryTile> tiles_of(const Op* ops, int num_ops, const Step& step) {
    const Op* found = std::find_if(ops, ops + num_ops, [](const Op& op) { return op.kind == kAttend; });
    return found == ops + num_ops ? std::vector<QueryTile>() : query_tiles(*found, step);
}

template <class T>
void run(const Op* ops, int num_ops, const Step& step, int num_threads) {
    const std::vector<QueryTile> tiles = tiles_of(ops, num_ops, step);
#pragma omp parallel num_threads(num_threads)
    for (int i = 0; i < num_ops; ++i) run_op<T>(ops[i], step, tiles);
}

}  // namespace
}  // namespace fastserve

using namespace fastserve;

extern "C" {

int fastserve_op_bytes() { return sizeof(Op); }
int fastserve_step_bytes() { return sizeof(Step); }

void fastserve_best(const float* logits, long stride, int width, int num_rows, int32_t* ids, float* best,
                    int num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int row = 0; row < num_rows; ++row) best[row] = best_of(logits + row * stride, width, ids + row);
}

void fastserve_draw(const float* logits, long stride, int width, int num_rows, const float* temperatures,
                    const double* uniforms, int32_t* ids, int num_threads) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
    for (int row = 0; row < num_rows; ++row)
        ids[row] = draw_from(logits + row * stride, width, temperatures[row], uniforms[row]);
}

void fastserve_pack_float32(const void* weight, int n, int k, int padded_k, void* packed) {
    pack<Float32>(static_cast<const float*>(weight), n, k, padded_k, static_cast<float*>(packed));
}
void fastserve_run_float32(const Op* ops, int num_ops, const Step* step, int num_threads) {
    run<Float32>(ops, num_ops, *step, num_threads);
}

#ifdef __AVX512BF16__
void fastserve_pack_bfloat16(const void* weight, int n, int k, int padded_k, void* packed) {
    pack<BFloat16>(static_cast<const uint16_t*>(weight), n, k, padded_k, static_cast<uint16_t*>(packed));
}
void fastserve_run_bfloat16(const Op* ops, int num_ops, const Step* step, int num_threads) {
    run<BFloat16>(ops, num_ops, *step, num_threads);
}
#endif
}
