// Owns y = x @ W: how W is packed, and the inner loops. Knows nothing of what the numbers mean.
//
// W [n, k] is packed in panels of 32 outputs: [n / 32][k words][32], so that one row of a panel is two vectors and a
// panel is read from front to back once. Each output is one sum in the order of k, whatever else is in the batch: a row
// has the same result, to the bit, alone and among a thousand.
#pragma once

#include <algorithm>
#include <cstring>

#include "program.h"
#include "team.h"
#include "vectors.h"

namespace fastserve {

constexpr int kPanel = 2 * kLanes;
constexpr int kMaxPanels = 4;
constexpr int kMaxRows = 12;  // 12 x 2 sums, 2 of W and broadcasts from memory: the 32 registers

// Writes a weight of [n, k] among the zeros of a matrix whose panels have `padded_k` inputs: its outputs lie from `first`
// on, in every `panel_step`-th panel.
template <class T>
void pack(const typename T::Element* weight, int n, int k, int padded_k, typename T::Element* packed, int first,
          int panel_step, Team& team) {
    constexpr int per_word = T::kPerWord, line = kPanel * per_word;
    team.share((n + kPanel - 1) / kPanel, 1, [&](long stretch, long end) {
        for (; stretch < end; ++stretch) {
            const int num_rows = std::min(kPanel, n - int(stretch) * kPanel);
            const auto* rows = weight + size_t(stretch) * kPanel * k;
            typename T::Element* places[kPanel];
            for (int row = 0; row < num_rows; ++row) {
                const size_t output = first + stretch * kPanel * panel_step + row;
                places[row] = packed + output / kPanel * padded_k * kPanel + output % kPanel * per_word;
            }
            for (int word = 0; word < k / per_word; ++word)
                for (int row = 0; row < num_rows; ++row)
                    std::memcpy(places[row] + word * line, rows + size_t(row) * k + word * per_word, sizeof(uint32_t));
            for (int rest = k / per_word * per_word; rest < k; ++rest)
                for (int row = 0; row < num_rows; ++row)
                    places[row][rest / per_word * line + rest % per_word] = rows[size_t(row) * k + rest];
        }
    });
}

// sums[row * stride + panel * 32 + ...] of `Rows` rows and `Panels` neighbouring panels.
template <class T, int Rows, int Panels>
void tile(const uint32_t* x, size_t x_stride, const uint32_t* w, size_t panel_words, int num_words,
          size_t ahead, float* sums, size_t sums_stride) {
    __m512 acc[Rows][Panels][2];
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
        for (int panel = 0; panel < Panels; ++panel)
            acc[row][panel][0] = acc[row][panel][1] = _mm512_setzero_ps();
    for (int word = 0; word < num_words; ++word) {
#pragma GCC unroll 4
        for (int panel = 0; panel < Panels; ++panel) {
            const uint32_t* line = w + panel * panel_words + size_t(word) * kPanel;
            _mm_prefetch(reinterpret_cast<const char*>(line + ahead), _MM_HINT_T1);
            _mm_prefetch(reinterpret_cast<const char*>(line + ahead + kLanes), _MM_HINT_T1);
            const __m512 low = _mm512_loadu_ps(line), high = _mm512_loadu_ps(line + kLanes);
#pragma GCC unroll 12
            for (int row = 0; row < Rows; ++row) {
                const __m512 value = broadcast(x + row * x_stride + word);
                acc[row][panel][0] = T::dot(acc[row][panel][0], value, low);
                acc[row][panel][1] = T::dot(acc[row][panel][1], value, high);
            }
        }
    }
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
        for (int panel = 0; panel < Panels; ++panel) {
            _mm512_storeu_ps(sums + row * sums_stride + panel * kPanel, acc[row][panel][0]);
            _mm512_storeu_ps(sums + row * sums_stride + panel * kPanel + kLanes, acc[row][panel][1]);
        }
}

template <class T>
using Tile = void (*)(const uint32_t*, size_t, const uint32_t*, size_t, int, size_t, float*, size_t);

// The tile of so many rows and panels, where its sums fit the registers; see `most_panels`.
template <class T>
Tile<T> tile_of(int rows, int panels) {
    static constexpr Tile<T> by_one[] = {tile<T, 1, 1>, tile<T, 2, 1>, tile<T, 3, 1>,  tile<T, 4, 1>,
                                         tile<T, 5, 1>, tile<T, 6, 1>, tile<T, 7, 1>,  tile<T, 8, 1>,
                                         tile<T, 9, 1>, tile<T, 10, 1>, tile<T, 11, 1>, tile<T, 12, 1>};
    static constexpr Tile<T> by_two[] = {tile<T, 1, 2>, tile<T, 2, 2>, tile<T, 3, 2>,
                                         tile<T, 4, 2>, tile<T, 5, 2>, tile<T, 6, 2>};
    static constexpr Tile<T> by_four[] = {tile<T, 1, 4>, tile<T, 2, 4>, tile<T, 3, 4>};
    return panels == 4 ? by_four[rows - 1] : panels == 2 ? by_two[rows - 1] : by_one[rows - 1];
}

inline int most_panels(int rows) { return rows <= 3 ? 4 : rows <= 6 ? 2 : 1; }

inline __m512 activate(__m512 x, int activation) {
    const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
    switch (activation) {
        case kSilu:
            return sigmoid_times(x, x);
        case kGeluTanh: {
            const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
            const __m512 inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
            const __m512 t = tanh_ps(_mm512_mul_ps(inner, _mm512_set1_ps(0.7978845608028654f)));
            return _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, t));
        }
        case kRelu:
            return _mm512_max_ps(_mm512_setzero_ps(), x);  // in this order a NaN stays
        default: {  // kGelu: the error function, one lane at a time; no large model uses it
            float lanes[kLanes];
            _mm512_storeu_ps(lanes, x);
            for (float& lane : lanes) lane = 0.5f * lane * (1.0f + __builtin_erff(lane * 0.70710678118654752f));
            return _mm512_loadu_ps(lanes);
        }
    }
}

inline __m512 with_bias(const Op& op, const float* sums, int column) {
    const __m512 value = _mm512_loadu_ps(sums);
    return op.bias == nullptr ? value : _mm512_add_ps(value, _mm512_loadu_ps(op.bias + column));
}

template <class T>
void finish(const Op& op, int row, int panel, const float* sums) {
    for (int half = 0; half < 2; ++half) {
        const int column = panel * kPanel + half * kLanes;
        __m512 value = with_bias(op, sums + half * kLanes, column);
        if (op.epilogue == kActivate) {
            auto* out = static_cast<typename T::Element*>(op.target) + size_t(row) * op.target_stride + column;
            T::store(out, activate(value, op.activation));
            continue;
        }
        auto* out = static_cast<float*>(op.target) + size_t(row) * op.target_stride + column;
        if (op.softcap > 0.0f) value = capped(value, op.softcap);
        if (op.epilogue == kAccumulate) value = _mm512_add_ps(_mm512_loadu_ps(out), value);
        _mm512_storeu_ps(out, value);
    }
}

// Panels come in pairs: the gate's, then the same outputs' of up.
template <class T>
void finish_gate(const Op& op, int row, int pair, const float* gate, const float* up) {
    for (int half = 0; half < 2; ++half) {
        const int column = 2 * pair * kPanel + half * kLanes;
        const __m512 g = with_bias(op, gate + half * kLanes, column);
        const __m512 u = with_bias(op, up + half * kLanes, column + kPanel);
        auto* out = static_cast<typename T::Element*>(op.target) + size_t(row) * op.target_stride + pair * kPanel +
                    half * kLanes;
        T::store(out, _mm512_mul_ps(activate(g, op.activation), u));
    }
}

// `num_panels` (at most `kMaxPanels`) neighbouring panels for all rows, in tiles of equal height.
template <class T>
void linear_panels(const Op& op, int num_rows, int rows_per_tile, int first_panel, int num_panels) {
    const int num_words = op.k / T::kPerWord;
    const size_t panel_words = size_t(num_words) * kPanel, x_stride = size_t(op.source_stride) / T::kPerWord;
    const auto* x = static_cast<const uint32_t*>(op.source);
    const auto* w = static_cast<const uint32_t*>(op.weight) + first_panel * panel_words;
    alignas(64) float sums[kMaxRows * kMaxPanels * kPanel];
    constexpr size_t stride = kMaxPanels * kPanel;
    for (int row = 0; row < num_rows; row += rows_per_tile) {
        // The last tile fetches the next panels into the second cache; those before it find theirs there.
        const size_t ahead = row + rows_per_tile >= num_rows ? num_panels * panel_words : 0;
        const int rows = num_rows - row < rows_per_tile ? num_rows - row : rows_per_tile;
        for (int panel = 0; panel < num_panels;) {
            int width = most_panels(rows);
            while (width > num_panels - panel) width /= 2;
            tile_of<T>(rows, width)(x + row * x_stride, x_stride, w + panel * panel_words, panel_words, num_words,
                                    ahead, sums + panel * kPanel, stride);
            panel += width;
        }
        for (int r = 0; r < rows; ++r)
            for (int panel = 0; panel < num_panels; ++panel) {
                const float* own = sums + r * stride + panel * kPanel;
                if (op.epilogue != kGate)
                    finish<T>(op, row + r, first_panel + panel, own);
                else if (panel % 2 == 0)
                    finish_gate<T>(op, row + r, (first_panel + panel) / 2, own, own + kPanel);
            }
    }
}

// Few rows wait for memory, so several panels are read side by side; many rows keep one panel in the nearest cache.
template <class T>
void linear(const Op& op, int num_rows, Team& team) {
    if (num_rows == 0) return;
    const int num_panels = op.n / kPanel;
    const int num_tiles = (num_rows + kMaxRows - 1) / kMaxRows;
    const int rows_per_tile = (num_rows + num_tiles - 1) / num_tiles;
    const int width = rows_per_tile <= 3 ? 4 : rows_per_tile <= 6 || op.epilogue == kGate ? 2 : 1;
    const long num_groups = (num_panels + width - 1) / width;
    team.share(num_groups, std::max(1L, num_groups / 8), [&](long begin, long end) {
        for (long group = begin; group < end; ++group) {
            const int first = int(group) * width;
            linear_panels<T>(op, num_rows, rows_per_tile, first, std::min(width, num_panels - first));
        }
    });
}

}  // namespace fastserve
