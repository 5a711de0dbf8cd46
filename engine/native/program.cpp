// Runs programs: the whole of a step, or the part between two all-reduces. The C interface.

#include "program.h"

#include "attention.h"
#include "choice.h"
#include "linear.h"
#include "norm.h"
#include "team.h"

namespace fastserve {
namespace {

template <class T>
void run_op(const Op& op, const Step& step, const std::vector<QueryTile>& tiles, Team& team) {
    switch (op.kind) {
        case kEmbed: return embed<T>(op, step, team);
        case kNorm: return norm<T>(op, step, team);
        case kLinear: return linear<T>(op, num_rows_of(op, step), team);
        case kRotateWrite: return rotate_write<T>(op, step, team);
        case kAttend: return attend<T>(op, step, tiles, team);
        case kNormAdd: return norm_add(op, step, team);
        case kAdd: return add(op, step, team);
        case kCap: return cap(op, step, team);
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
    Team& team = team_of(num_threads);
    const std::lock_guard<std::mutex> held(team.in_use());
    for (int i = 0; i < num_ops; ++i) run_op<T>(ops[i], step, tiles, team);
}

// body(row) for every row, on all threads.
template <class Body>
void for_rows(int num_rows, int num_threads, const Body& body) {
    Team& team = team_of(num_threads);
    const std::lock_guard<std::mutex> held(team.in_use());
    team.share(num_rows, 1, [&](long row, long end) {
        for (; row < end; ++row) body(row);
    });
}

template <class T>
void pack_weight(const void* weight, int n, int k, int padded_k, void* packed, int first,
                 int panel_step, int num_threads) {
    using Element = typename T::Element;
    Team& team = team_of(num_threads);
    const std::lock_guard<std::mutex> held(team.in_use());
    pack<T>(static_cast<const Element*>(weight), n, k, padded_k, static_cast<Element*>(packed), first, panel_step, team);
}

}  // namespace
}  // namespace fastserve

using namespace fastserve;

extern "C" {

int fastserve_op_bytes() { return sizeof(Op); }
int fastserve_step_bytes() { return sizeof(Step); }

void fastserve_best(const float* logits, long stride, int width, int num_rows, int32_t* ids, float* best,
                    int num_threads) {
    for_rows(num_rows, num_threads,
             [&](long row) { best[row] = best_of(logits + row * stride, width, ids + row); });
}

void fastserve_draw(const float* logits, long stride, int width, int num_rows, const float* temperatures,
                    const double* uniforms, int32_t* ids, int num_threads) {
    for_rows(num_rows, num_threads, [&](long row) {
        ids[row] = draw_from(logits + row * stride, width, temperatures[row], uniforms[row]);
    });
}

void fastserve_pack_float32(const void* weight, int n, int k, int padded_k, void* packed, int first, int panel_step,
                            int num_threads) {
    pack_weight<Float32>(weight, n, k, padded_k, packed, first, panel_step, num_threads);
}
void fastserve_run_float32(const Op* ops, int num_ops, const Step* step, int num_threads) {
    run<Float32>(ops, num_ops, *step, num_threads);
}

#ifdef __AVX512BF16__
void fastserve_pack_bfloat16(const void* weight, int n, int k, int padded_k, void* packed, int first, int panel_step,
                             int num_threads) {
    pack_weight<BFloat16>(weight, n, k, padded_k, packed, first, panel_step, num_threads);
}
void fastserve_run_bfloat16(const Op* ops, int num_ops, const Step* step, int num_threads) {
    run<BFloat16>(ops, num_ops, *step, num_threads);
}
#endif
}
