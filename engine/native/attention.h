// Owns attention over the paged KV cache and what precedes it: norms of queries and keys, rotation, the write.
//
// The cache of a layer keeps, for each block, key-value head and run of 16 tokens, one after the other:
//   keys   [dim words][16 tokens]   so that sixteen scores are one vector and no sum crosses lanes;
//   values [16 tokens, in words][dim]   (of bfloat16, two neighbouring tokens share a word).
// A query sees its keys in runs of 16 from the first block on, whatever tile it is in: its result is the same, to the
// bit, alone and among others, decoded and prefilled. The online softmax is that of Milakov and Gimelshein (2018).
#pragma once


#include <algorithm>
#include <cmath>
#include <vector>

#include "norm.h"
#include "program.h"
#include "vectors.h"

namespace fastserve {

constexpr int kRun = kLanes;       // tokens of a run
constexpr int kMaxQueries = 12;    // queries (tokens x heads of one key-value head) of a tile
constexpr int kMaxHeadDim = 256;
constexpr float kNever = -1e30f;   // finite, so that a row that has seen nothing yet stays a number

template <class T>
struct Cache {
    using Element = typename T::Element;
    const Op& op;
    int block_size;

    size_t run_elements() const { return size_t(kRun) * op.head_dim; }
    Element* keys(int slot, int head) const {
        const size_t block = size_t(slot / block_size), run = size_t(slot % block_size) / kRun;
        const size_t runs_before = (block * op.num_kv_heads + head) * (block_size / kRun) + run;
        return static_cast<Element*>(op.cache) + 2 * runs_before * run_elements();
    }
    Element* values(int slot, int head) const { return keys(slot, head) + run_elements(); }

    void write(int slot, int head, const float* key, const float* value) const {
        constexpr int per_word = T::kPerWord;
        const int token = slot % kRun;
        Element *k = keys(slot, head), *v = values(slot, head);
        for (int i = 0; i < op.head_dim; ++i) {
            k[(i / per_word * kRun + token) * per_word + i % per_word] = T::from_float(key[i]);
            v[(token / per_word * op.head_dim + i) * per_word + token % per_word] = T::from_float(value[i]);
        }
    }
    // The rest of the run is read with weight 0, and a NaN that an earlier owner left there would spoil the sum.
    void clear_after(int slot, int head) const {
        constexpr int per_word = T::kPerWord;
        Element* v = values(slot, head);
        for (int token = slot % kRun + 1; token < kRun; ++token)
            for (int i = 0; i < op.head_dim; ++i)
                v[(token / per_word * op.head_dim + i) * per_word + token % per_word] = Element(0);
    }
};

inline void norm_head(float* x, const float* weight, int dim, float epsilon) {
    if (weight == nullptr) return;
    const Normed found = norm_of(x, dim, false, epsilon);
    for (int i = 0; i < dim; ++i) x[i] = normed(found, x, weight, nullptr, i);
}

inline void rotate(float* x, const float* cosines, const float* sines, int rotary_dim) {
    const int half = rotary_dim / 2;
    for (int i = 0; i < half; ++i) {
        const float first = x[i], second = x[i + half];
        x[i] = first * cosines[i] - second * sines[i];
        x[i + half] = second * cosines[i] + first * sines[i];
    }
}

template <class T>
void rotate_write(const Op& op, const Step& step, Team& team) {
    const Cache<T> cache{op, step.block_size};
    const int dim = op.head_dim, half = op.rotary_dim / 2;
    each_row(team, step.num_tokens, [&](long row) {
        const int position = step.positions[row], slot = step.slots[row];
        const float* from = static_cast<const float*>(op.source) + size_t(row) * op.source_stride;
        const float *cosines = op.cosines + size_t(position) * half, *sines = op.sines + size_t(position) * half;
        float head[kMaxHeadDim];
        auto* queries = static_cast<typename T::Element*>(op.queries) + size_t(row) * op.num_heads * dim;
        for (int h = 0; h < op.num_heads; ++h) {
            std::copy_n(from + h * dim, dim, head);
            norm_head(head, op.query_norm, dim, op.epsilon);
            rotate(head, cosines, sines, op.rotary_dim);
            for (int i = 0; i < dim; ++i) queries[h * dim + i] = T::from_float(head[i]);
        }
        const float* key = from + op.num_heads * dim;
        const float* value = key + op.num_kv_heads * dim;
        const bool opens = slot % kRun == 0 || (row > 0 && step.slots[row - 1] == slot - 1);
        const bool last = row + 1 == step.num_tokens || step.slots[row + 1] != slot + 1;
        for (int h = 0; h < op.num_kv_heads; ++h) {
            std::copy_n(key + h * dim, dim, head);
            norm_head(head, op.key_norm, dim, op.epsilon);
            rotate(head, cosines, sines, op.rotary_dim);
            cache.write(slot, h, head, value + h * dim);
            if (opens && last) cache.clear_after(slot, h);
        }
    });
}

// One tile: `num_tokens` neighbouring tokens of a chunk with the heads of one key-value head, `Queries` in all.
struct QueryTile {
    int chunk, first_token, num_tokens, kv_head, first_head, num_heads;
};

// A stretch is two runs: their scores are independent sums, and one maximum serves both.
constexpr int kRuns = 2, kStretch = kRuns * kRun;

struct Stretch {
    const uint32_t *keys[kRuns], *values[kRuns];
};

// Into the second cache: the first one's few outstanding reads are the computation's own.
inline void prefetch(const uint32_t* line) { _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1); }

// The keys of `next` are fetched meanwhile, as the values are below, so that memory is busy all the time.
template <class T, int Queries>
void scores_of(const uint32_t* const* queries, const Stretch& stretch, const Stretch& next, int num_words,
               __m512 (*scores)[kRuns]) {
    __m512 acc[Queries][kRuns];
#pragma GCC unroll 12
    for (int q = 0; q < Queries; ++q) acc[q][0] = acc[q][1] = _mm512_setzero_ps();
    for (int word = 0; word < num_words; ++word) {
        __m512 near = _mm512_loadu_ps(stretch.keys[0] + word * kRun);
        __m512 far = _mm512_loadu_ps(stretch.keys[1] + word * kRun);
        asm("" : "+v"(near), "+v"(far));  // GCC 12 would load both anew for every query
        for (const uint32_t* keys : next.keys) prefetch(keys + word * kRun);
#pragma GCC unroll 12
        for (int q = 0; q < Queries; ++q) {
            const __m512 query = broadcast(queries[q] + word);
            acc[q][0] = T::dot(acc[q][0], query, near);
            acc[q][1] = T::dot(acc[q][1], query, far);
        }
    }
#pragma GCC unroll 12
    for (int q = 0; q < Queries; ++q) scores[q][0] = acc[q][0], scores[q][1] = acc[q][1];
}

template <class T, int Queries>
void add_values(const uint32_t (*weights)[kStretch], const Stretch& stretch, const Stretch& next, int dim,
                float (*sums)[kMaxHeadDim]) {
    constexpr int num_words = kRun / T::kPerWord;
    for (int i = 0; i < dim; i += kLanes) {
        __m512 acc[Queries];
#pragma GCC unroll 12
        for (int q = 0; q < Queries; ++q) acc[q] = _mm512_loadu_ps(sums[q] + i);
        for (int run = 0; run < kRuns; ++run)
#pragma GCC unroll 8
            for (int word = 0; word < num_words; ++word) {
                const __m512 line = _mm512_loadu_ps(stretch.values[run] + word * dim + i);
                prefetch(next.values[run] + word * dim + i);
#pragma GCC unroll 12
                for (int q = 0; q < Queries; ++q)
                    acc[q] = T::dot(acc[q], broadcast(weights[q] + run * num_words + word), line);
            }
#pragma GCC unroll 12
        for (int q = 0; q < Queries; ++q) _mm512_storeu_ps(sums[q] + i, acc[q]);
    }
}

// Sixteen scores, scaled and capped, and -inf where the query may not look: after token `last` of the run, counted from
// 0, and before its window.
inline __m512 seen_only(__m512 score, int last, const Op& op) {
    score = _mm512_mul_ps(score, _mm512_set1_ps(op.scale));
    if (op.softcap > 0.0f) score = capped(score, op.softcap);
    const int first = op.window > 0 ? last - op.window + 1 : 0;
    if (last >= kRun - 1 && first <= 0) return score;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __mmask16 seen = _mm512_cmple_epi32_mask(lane, _mm512_set1_epi32(last)) &
                           _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(first));
    return _mm512_mask_blend_ps(seen, _mm512_set1_ps(-INFINITY), score);
}

// What one query has summed up so far: its values, weighed, their total weight, and the highest score.
struct Softmax {
    float highest = kNever;
    __m512 total = _mm512_setzero_ps();

    // Turns the scores of a stretch into weights; what was summed before shrinks where a higher score has come.
    template <class T>
    void weigh(const __m512 (&scores)[kRuns], int dim, float* sums, uint32_t* weights) {
        const float top = _mm512_reduce_max_ps(_mm512_max_ps(scores[0], scores[1]));
        if (top > highest) {
            const __m512 shrink = exp_ps(_mm512_set1_ps(highest - top));
            total = _mm512_mul_ps(total, shrink);
            for (int i = 0; i < dim; i += kLanes)
                _mm512_storeu_ps(sums + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), shrink));
            highest = top;
        }
        for (int run = 0; run < kRuns; ++run) {
            const __m512 weight = exp_ps(_mm512_sub_ps(scores[run], _mm512_set1_ps(highest)));
            total = _mm512_add_ps(total, weight);
            T::store(reinterpret_cast<typename T::Element*>(weights) + run * kRun, weight);
        }
    }
};

template <class T>
struct TileContext {
    const Op& op;
    const QueryTile& tile;
    Cache<T> cache;
    const int32_t* table;
    int row, position;  // of the tile's first token: in the step, and in its sequence

    TileContext(const Op& op, const Step& step, const QueryTile& tile)
        : op(op), tile(tile), cache{op, step.block_size}, table(step.tables + step.first_blocks[tile.chunk]),
          row(step.first_rows[tile.chunk] + tile.first_token), position(step.starts[tile.chunk] + tile.first_token) {}

    int begin() const { return op.window > 0 ? std::max(0, position + 1 - op.window) / kStretch * kStretch : 0; }
    int end() const { return position + tile.num_tokens; }
    int token_of(int query) const { return query / tile.num_heads; }

    // A run that nobody sees is the stretch's first one again: its weights are 0.
    Stretch stretch(int at) const {
        Stretch found;
        for (int run = 0; run < kRuns; ++run) {
            const int seen = at + run * kRun < end() ? at + run * kRun : at;
            const int slot = table[seen / cache.block_size] * cache.block_size + seen % cache.block_size;
            found.keys[run] = reinterpret_cast<const uint32_t*>(cache.keys(slot, tile.kv_head));
            found.values[run] = reinterpret_cast<const uint32_t*>(cache.values(slot, tile.kv_head));
        }
        return found;
    }
    size_t head_at(int query, size_t row_stride) const {
        return size_t(row + token_of(query)) * row_stride + (tile.first_head + query % tile.num_heads) * op.head_dim;
    }
};

// `after`: the tile whose first stretch is fetched during this one's last.
template <class T, int Queries>
void attend_tile(const Op& op, const Step& step, const QueryTile& tile, const QueryTile& after) {
    const TileContext<T> context(op, step, tile), following(op, step, after);
    const int dim = op.head_dim, end = context.end();
    alignas(64) float sums[Queries][kMaxHeadDim];
    alignas(64) uint32_t weights[Queries][kStretch];
    const uint32_t* queries[Queries];
    Softmax softmax[Queries];
    const auto* from = static_cast<const typename T::Element*>(op.source);
    for (int q = 0; q < Queries; ++q) {
        queries[q] = reinterpret_cast<const uint32_t*>(from + context.head_at(q, size_t(op.num_heads) * dim));
        std::fill_n(sums[q], dim, 0.0f);
    }
    Stretch next = context.stretch(context.begin());
    for (int at = context.begin(); at < end; at += kStretch) {
        const Stretch stretch = next;
        next = at + kStretch < end ? context.stretch(at + kStretch) : following.stretch(following.begin());
        __m512 scores[Queries][kRuns];
        scores_of<T, Queries>(queries, stretch, next, dim / T::kPerWord, scores);
        for (int q = 0; q < Queries; ++q) {
            const int last = context.position + context.token_of(q) - at;
            for (int run = 0; run < kRuns; ++run) scores[q][run] = seen_only(scores[q][run], last - run * kRun, op);
            softmax[q].template weigh<T>(scores[q], dim, sums[q], weights[q]);
        }
        add_values<T, Queries>(weights, stretch, next, dim, sums);
    }
    for (int q = 0; q < Queries; ++q) {
        const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(softmax[q].total));
        auto* out = static_cast<typename T::Element*>(op.target) + context.head_at(q, op.target_stride);
        for (int i = 0; i < dim; i += kLanes) T::store(out + i, _mm512_mul_ps(_mm512_loadu_ps(sums[q] + i), share));
    }
}

template <class T>
using AttendTile = void (*)(const Op&, const Step&, const QueryTile&, const QueryTile&);

template <class T>
AttendTile<T> attend_tile_of(int num_queries) {
    static constexpr AttendTile<T> tiles[] = {
        attend_tile<T, 1>, attend_tile<T, 2>, attend_tile<T, 3>, attend_tile<T, 4>,  attend_tile<T, 5>,  attend_tile<T, 6>,
        attend_tile<T, 7>, attend_tile<T, 8>, attend_tile<T, 9>, attend_tile<T, 10>, attend_tile<T, 11>, attend_tile<T, 12>};
    return tiles[num_queries - 1];
}

// The heads that share a key-value head go together, with as many neighbouring tokens as fit.
inline void add_tiles(const Op& op, const Step& step, int chunk, std::vector<QueryTile>& tiles) {
    const int group = op.num_heads / op.num_kv_heads;
    const int heads = std::min(group, kMaxQueries), tokens = std::max(1, kMaxQueries / group);
    for (int first = step.lengths[chunk] - 1; first >= 0; first -= tokens)  // the longest context first
        for (int kv_head = 0; kv_head < op.num_kv_heads; ++kv_head)
            for (int head = 0; head < group; head += heads) {
                const int begin = std::max(0, first - tokens + 1);
                tiles.push_back({chunk, begin, first - begin + 1, kv_head, kv_head * group + head,
                                 std::min(heads, group - head)});
            }
}

inline std::vector<QueryTile> query_tiles(const Op& op, const Step& step) {
    std::vector<QueryTile> tiles;
    for (int chunk = step.num_chunks - 1; chunk >= 0; --chunk) add_tiles(op, step, chunk, tiles);  // long ones first
    return tiles;
}

// A sequence's heads lie side by side in the cache, so that one thread takes them all where there are tiles enough.
template <class T>
void attend(const Op& op, const Step& step, const std::vector<QueryTile>& tiles, Team& team) {
    const long num_tiles = long(tiles.size());
    const long together = num_tiles >= 4L * team.num_threads() * op.num_kv_heads ? op.num_kv_heads : 1;
    team.share(num_tiles, together, [&](long begin, long end) {
        for (long i = begin; i < end; ++i)
            attend_tile_of<T>(tiles[i].num_tokens * tiles[i].num_heads)(op, step, tiles[i],
                                                                        tiles[std::min(i + 1, num_tiles - 1)]);
    });
}

}  // namespace fastserve
