// Threads that run one function together, and the barrier and the counters by which they share its work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sluicegate {

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// All threads wait for one another. They spin, since a phase of a step lasts microseconds, but not for long: whoever
// is waited for may need this very core.
class Barrier {
public:
    explicit Barrier(int threads) : threads_(threads) {}

    void wait() {
        const unsigned phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++) {
            if (spins < SPINS)
                relax();
            else
                std::this_thread::yield();
        }
    }

private:
    static constexpr int SPINS = 2000;
    const int threads_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> phase_{0};
};

// Pieces of work 0, 1, ... handed out to whoever asks.
struct alignas(64) Counter {
    std::atomic<int> next{0};
};

// The caller and `threads - 1` others. Between two runs the others spin for a while, then sleep.
class Pool {
public:
    explicit Pool(int threads) : threads(threads), barrier(threads) {
        for (int thread = 1; thread < threads; thread++) others_.emplace_back([this, thread] { serve(thread); });
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopped_ = true;
        }
        wake_.notify_all();
        for (std::thread& other : others_) other.join();
    }

    // Run `work(thread)` in all threads; returns when all have returned. It must not throw.
    void run(const std::function<void(int)>& work) {
        work_ = &work;
        if (threads > 1) {
            std::lock_guard<std::mutex> lock(mutex_);
            runs_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        work(0);
        barrier.wait();
    }

    const int threads;
    Barrier barrier;

private:
    static constexpr int SPINS = 4000;

    void serve(int thread) {
        unsigned seen = 0;
        for (;;) {
            for (int spins = 0; spins < SPINS && runs_.load(std::memory_order_acquire) == seen; spins++) relax();
            if (runs_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return stopped_ || runs_.load(std::memory_order_acquire) != seen; });
                if (stopped_) return;
            }
            seen++;
            (*work_)(thread);
            barrier.wait();
        }
    }

    std::atomic<unsigned> runs_{0};
    const std::function<void(int)>* work_ = nullptr;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopped_ = false;
    std::vector<std::thread> others_;
};

}  // namespace sluicegate
