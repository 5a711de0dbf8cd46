// Owns the threads that run a program's loops together. Knows nothing of what a loop does.
//
// One thread leads: it runs the program and shares out each loop in pieces, which whoever is free takes. A loop has
// ended when its pieces have, not when all threads have met: a helper that the system sets aside between two pieces
// holds up nobody. Whoever waits for longer than a piece takes sleeps, so that other processes get its core.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <immintrin.h>

namespace fastserve {

class Team {
public:
    // `size` threads, the leader among them. They end with the process.
    explicit Team(int size) : num_threads_(size), cores_(size) {
        for (int i = 1; i < size; ++i) std::thread([this, i] { help(i); }).detach();
    }

    int num_threads() const { return num_threads_; }

    // body(begin, end) for stretches of at most `grain` that cover 0 to `count` once each. The leader calls it.
    template <class Body>
    void share(long count, long grain, const Body& body) {
        grain = std::max(grain, (count + kMaxPieces - 1) / kMaxPieces);
        const long num_pieces = (count + grain - 1) / grain;
        if (num_threads_ == 1 || num_pieces <= 1) {
            if (count > 0) body(0L, count);
            return;
        }
        loop_ = {[](const void* of, long begin, long end) { (*static_cast<const Body*>(of))(begin, end); }, &body,
                 count, grain};
        num_done_.store(0, std::memory_order_relaxed);
        publish(num_pieces);
        while (take_piece()) {}
        await_pieces(int(num_pieces));
    }

    // Steps of one team come one after the other.
    std::mutex& in_use() { return in_use_; }

private:
    // A ticket says which loop runs, how many pieces it has, and how many of them have been taken. Whoever takes one
    // does so in one exchange of the whole, so that nobody takes a piece of a loop that has ended.
    static constexpr int kBits = 16;
    static constexpr long kMaxPieces = (1L << kBits) - 1;
    static constexpr auto kSpin = std::chrono::microseconds(100);  // some pieces' worth

    struct Loop {
        void (*body)(const void*, long, long);
        const void* of;
        long count, grain;
    };

    static long num_pieces(uint64_t ticket) { return (ticket >> kBits) & kMaxPieces; }
    static long num_taken(uint64_t ticket) { return ticket & kMaxPieces; }

    void publish(long num_pieces) {
        cores_[0].store(sched_getcpu(), std::memory_order_relaxed);
        const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> 2 * kBits) + 1;
        ticket_.store(number << 2 * kBits | uint64_t(num_pieces) << kBits);
        if (num_asleep_.load() == 0) return;
        num_calls_.fetch_add(1);
        num_calls_.notify_all();
    }

    // Runs one piece of the present loop; false where none is left.
    bool take_piece() {
        uint64_t ticket = ticket_.load(std::memory_order_acquire);
        do {
            if (num_taken(ticket) >= num_pieces(ticket)) return false;
        } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
        const long begin = num_taken(ticket) * loop_.grain;  // the loop stays what it is until this piece is done
        loop_.body(loop_.of, begin, std::min(begin + loop_.grain, loop_.count));
        num_done_.fetch_add(1);
        if (is_leader_asleep_.load()) num_done_.notify_one();
        return true;
    }

    // The leader found no piece left: those that are still being done are with helpers.
    void await_pieces(int num_pieces) {
        const auto all_done = [&] { return num_done_.load(std::memory_order_acquire) == num_pieces; };
        if (spin_until(all_done)) return;
        is_leader_asleep_.store(true);
        for (int done; (done = num_done_.load()) < num_pieces;) num_done_.wait(done);
        is_leader_asleep_.store(false);
    }

    void help(int self) {
        for (;;) {
            if (spin_until([this] { return has_piece(); })) {
                while (take_piece()) {}
                keep_apart(self);
            } else {
                sleep();
            }
        }
    }

    void sleep() {
        const int calls = num_calls_.load();
        num_asleep_.fetch_add(1);
        if (!has_piece()) num_calls_.wait(calls);
        num_asleep_.fetch_sub(1);
    }

    bool has_piece() const {
        const uint64_t ticket = ticket_.load();
        return num_taken(ticket) < num_pieces(ticket);
    }

    // Whether it came true within the time that waiting is worth.
    template <class Condition>
    static bool spin_until(const Condition& holds) {
        for (const auto since = std::chrono::steady_clock::now();;) {
            for (int i = 0; i < 32; ++i, _mm_pause())
                if (holds()) return true;
            if (std::chrono::steady_clock::now() - since > kSpin) return false;
        }
    }

    // Two of a team on one core would take turns there, and the system has no reason to part them: each is seldom seen
    // to wait. Whoever comes later goes elsewhere, and may then be moved as the system likes.
    void keep_apart(int self) {
        const int core = sched_getcpu();
        cores_[self].store(core, std::memory_order_relaxed);
        cpu_set_t allowed, others;
        bool is_shared = false;
        for (int i = 0; i < self; ++i) is_shared |= cores_[i].load(std::memory_order_relaxed) == core;
        if (!is_shared || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
        others = allowed;
        for (int i = 0; i < self; ++i) CPU_CLR(cores_[i].load(std::memory_order_relaxed), &others);
        if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
            sched_setaffinity(0, sizeof allowed, &allowed);
    }

    const int num_threads_;
    std::vector<std::atomic<int>> cores_;  // where each was last seen, the leader first
    Loop loop_{};
    std::atomic<uint64_t> ticket_{0};
    std::atomic<int> num_done_{0};   // pieces of the present loop
    std::atomic<int> num_calls_{0};  // changes when there is work for helpers that sleep
    std::atomic<int> num_asleep_{0};
    std::atomic<bool> is_leader_asleep_{false};
    std::mutex in_use_;
};

// The team of so many threads; made when it is first asked for.
inline Team& team_of(int num_threads) {
    static std::mutex guard;
    static std::vector<std::unique_ptr<Team>>& teams = *new std::vector<std::unique_ptr<Team>>();  // outlives its threads
    const std::lock_guard<std::mutex> held(guard);
    if (int(teams.size()) <= num_threads) teams.resize(num_threads + 1);
    if (teams[num_threads] == nullptr) teams[num_threads] = std::make_unique<Team>(num_threads);
    return *teams[num_threads];
}

}  // namespace fastserve
