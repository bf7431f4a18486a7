// What is read next, fetched while there is work on what is there.
#pragma once

#include <algorithm>
#include <cstddef>

namespace sluicegate {

// Brings bytes into the core's cache, a share of them at each step of the work before. Else the memory would wait for
// the processor, and then the processor for the memory.
class Coming {
public:
    Coming(const void* from, size_t bytes, size_t steps)
        : from_(static_cast<const char*>(from)), lines_(bytes / 64), a_step_((lines_ + steps - 1) / steps) {}

    // Once before each of the steps that were told.
    void fetch() {
        for (size_t end = std::min(lines_, next_ + a_step_); next_ < end; next_++)
            __builtin_prefetch(from_ + next_ * 64, 0, 2);
    }

private:
    const char* from_;
    size_t lines_, a_step_, next_ = 0;
};

}  // namespace sluicegate
