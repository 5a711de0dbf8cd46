// Owns the choice of a token out of a row of logits: the best one, or one drawn. Knows nothing of who asks.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors.h"

namespace fastserve {

constexpr int kSearchBlock = 1024;

// The row's maximum, and in `index` the first place that has it. A NaN anywhere is the maximum, as torch has it.
inline float best_of(const float* x, int width, int32_t* index) {
    __m512 best = _mm512_set1_ps(-INFINITY);
    __mmask16 unordered = 0;
    for (int i = 0; i < width; i += kLanes) {
        const __m512 value = _mm512_mask_loadu_ps(best, lanes_up_to(width - i), x + i);
        unordered |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        best = _mm512_max_ps(best, value);
    }
    *index = 0;
    if (unordered) return NAN;
    const float top = _mm512_reduce_max_ps(best);
    for (int i = 0; i < width; i += kLanes) {
        const __m512 value = _mm512_maskz_loadu_ps(lanes_up_to(width - i), x + i);
        const __mmask16 same = lanes_up_to(width - i) & _mm512_cmp_ps_mask(value, _mm512_set1_ps(top), _CMP_EQ_OQ);
        if (same) {
            *index = i + __builtin_ctz(same);
            break;
        }
    }
    return top;
}

// The weights exp((x - best) / temperature) of sixteen tokens; 0 past the end.
inline __m512 weights_of(const float* x, int i, int width, float best, float temperature) {
    const __mmask16 inside = lanes_up_to(width - i);
    const __m512 shifted = _mm512_sub_ps(_mm512_maskz_loadu_ps(inside, x + i), _mm512_set1_ps(best));
    return _mm512_maskz_mov_ps(inside, exp_ps(_mm512_div_ps(shifted, _mm512_set1_ps(temperature))));
}

// Inverse transform sampling in vocabulary order: the token at which the running sum of the weights passes `uniform`, in
// [0, 1), of their total. Sums of blocks first, then inside one block, in double, so that rare tokens keep their chance.
// A token of weight 0 is never returned; -1 where the total is 0 or no number.
inline int32_t draw_from(const float* x, int width, float temperature, double uniform) {
    int32_t ignored;
    const float best = best_of(x, width, &ignored);
    std::vector<double> mass;
    double total = 0.0;
    for (int block = 0; block < width; block += kSearchBlock) {
        __m512 sum = _mm512_setzero_ps();
        for (int i = block; i < std::min(width, block + kSearchBlock); i += kLanes)
            sum = _mm512_add_ps(sum, weights_of(x, i, width, best, temperature));
        mass.push_back(_mm512_reduce_add_ps(sum));
        total += mass.back();
    }
    if (!(total > 0.0) || std::isinf(total)) return -1;
    double remaining = uniform * total;
    size_t block = 0;
    while (block + 1 < mass.size() && remaining >= mass[block]) remaining -= mass[block++];
    while (mass[block] == 0.0) --block;  // rounding has led past the last weight
    int32_t last = -1;
    const int begin = int(block) * kSearchBlock, end = std::min(width, begin + kSearchBlock);
    for (int i = begin; i < end; i += kLanes) {
        float weights[kLanes];
        _mm512_storeu_ps(weights, weights_of(x, i, width, best, temperature));
        for (int lane = 0; lane < kLanes && i + lane < end; ++lane) {
            if (weights[lane] > 0.0f) last = i + lane;
            if (weights[lane] > 0.0f && remaining < weights[lane]) return last;
            remaining -= weights[lane];
        }
    }
    return last;
}

}  // namespace fastserve
