// A library to preload: the clock that can be set goes as far ahead as tests say, in seconds in an 8-byte file that
// STEPPED_CLOCK names. The clock that only goes forward is left alone. A call costs an addition, so that servers keep
// their speed, which libfaketime takes from them.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#include <cstdint>
#include <cstdlib>

namespace {

const volatile int64_t *ahead_seconds = nullptr;

__attribute__((constructor)) void open_clock() {
    const char *file = getenv("STEPPED_CLOCK");
    const int descriptor = file == nullptr ? -1 : open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        abort();
    }
    void *page = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, descriptor, 0);
    if (page == MAP_FAILED) {
        abort();
    }
    ahead_seconds = static_cast<const volatile int64_t *>(page);
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, struct timespec *now) noexcept {
    using Function = int (*)(clockid_t, struct timespec *);
    static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "clock_gettime"));
    const int status = next(clock, now);
    const bool can_be_set = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (status == 0 && can_be_set && ahead_seconds != nullptr) {
        now->tv_sec += *ahead_seconds;
    }
    return status;
}

time_t time(time_t *now) noexcept {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now != nullptr) {
        *now = found.tv_sec;
    }
    return found.tv_sec;
}

int gettimeofday(struct timeval *now, void *) noexcept {
    struct timespec found;
    const int status = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return status;
}

}  // extern "C"
