// Owns the operations that work row by row: embedding, norms, sums, caps. Knows no matrices.
#pragma once

#include <cmath>

#include "program.h"
#include "team.h"
#include "vectors.h"

namespace fastserve {

constexpr long kRowsAPiece = 8;  // of a microsecond or less each: fewer are not worth a second thread

template <class Body>
void each_row(Team& team, long num_rows, const Body& body) {
    team.share(num_rows, kRowsAPiece, [&](long begin, long end) {
        for (long row = begin; row < end; ++row) body(row);
    });
}

template <class T>
void embed(const Op& op, const Step& step, Team& team) {
    const auto* table = static_cast<const typename T::Element*>(op.weight);
    each_row(team, step.num_tokens, [&](long row) {
        const auto* from = table + size_t(step.token_ids[row]) * op.width;
        float* to = static_cast<float*>(op.target) + size_t(row) * op.target_stride;
        for (int i = 0; i < op.width; ++i) to[i] = T::to_float(from[i]) * op.scale;
    });
}

// Sums of 16 lanes, always in the same order.
inline float sum_of(const float* x, int width, float mean, bool squared) {
    __m512 total = _mm512_setzero_ps();
    const __m512 centre = _mm512_set1_ps(mean);
    for (int i = 0; i < width; i += kLanes) {
        const __mmask16 inside = lanes_up_to(width - i);
        const __m512 value = _mm512_maskz_sub_ps(inside, _mm512_maskz_loadu_ps(inside, x + i), centre);
        total = squared ? _mm512_fmadd_ps(value, value, total) : _mm512_add_ps(total, value);
    }
    return _mm512_reduce_add_ps(total);
}

struct Normed {
    float mean, factor;
};

inline Normed norm_of(const float* x, int width, bool layer_norm, float epsilon) {
    const float mean = layer_norm ? sum_of(x, width, 0.0f, false) / float(width) : 0.0f;
    return {mean, 1.0f / std::sqrt(sum_of(x, width, mean, true) / float(width) + epsilon)};
}

inline float normed(const Normed& norm, const float* x, const float* weight, const float* bias, int i) {
    const float value = (x[i] - norm.mean) * norm.factor * (weight == nullptr ? 1.0f : weight[i]);
    return bias == nullptr ? value : value + bias[i];
}

template <class T>
void norm(const Op& op, const Step& step, Team& team) {
    each_row(team, num_rows_of(op, step), [&](long row) {
        const int from = op.flags & kWantedRows ? step.rows[row] : row;
        const float* x = static_cast<const float*>(op.source) + size_t(from) * op.source_stride;
        auto* out = static_cast<typename T::Element*>(op.target) + size_t(row) * op.target_stride;
        const Normed found = norm_of(x, op.width, op.flags & kLayerNorm, op.epsilon);
        const auto* weight = static_cast<const float*>(op.weight);
        for (int i = 0; i < op.width; ++i) out[i] = T::from_float(normed(found, x, weight, op.bias, i));
    });
}

inline void norm_add(const Op& op, const Step& step, Team& team) {
    each_row(team, step.num_tokens, [&](long row) {
        const float* x = static_cast<const float*>(op.source) + size_t(row) * op.source_stride;
        float* out = static_cast<float*>(op.target) + size_t(row) * op.target_stride;
        const Normed found = norm_of(x, op.width, op.flags & kLayerNorm, op.epsilon);
        const auto* weight = static_cast<const float*>(op.weight);
        for (int i = 0; i < op.width; ++i) out[i] += normed(found, x, weight, op.bias, i);
    });
}

inline void add(const Op& op, const Step& step, Team& team) {
    each_row(team, step.num_tokens, [&](long row) {
        const float* x = static_cast<const float*>(op.source) + size_t(row) * op.source_stride;
        float* out = static_cast<float*>(op.target) + size_t(row) * op.target_stride;
        for (int i = 0; i < op.width; ++i) out[i] += x[i];
    });
}

// Rows are padded to whole vectors.
inline void cap(const Op& op, const Step& step, Team& team) {
    each_row(team, num_rows_of(op, step), [&](long row) {
        float* x = static_cast<float*>(op.target) + size_t(row) * op.target_stride;
        for (int i = 0; i < op.width; i += kLanes) _mm512_storeu_ps(x + i, capped(_mm512_loadu_ps(x + i), op.softcap));
    });
}

}  // namespace fastserve
