/* Clocks that a test sets, for one process: preloaded, it adds to what the kernel says two offsets that lie in a
 * file, as eight bytes of nanoseconds each, which both map: that of the wall clock, and that of the time since the
 * boot, which a suspended device has beyond its monotonic time. Each call reads its own anew, in one load, so a
 * thread sees the time before a step or the time behind it and never a third one.
 *
 * As with the kernel's own clock, a wait until a moment of the wall clock ends when the clock has got there:
 * late by the step where it is set back meanwhile, at once where it is set forward. Monotonic time and the times of
 * files stay as they are.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
/* How soon a wait notices that the clock was set. */
static const int64_t LOOK = 20000000;
enum { WALL, BOOT, OFFSETS };
static const volatile int64_t *offsets;

/* A process without its clock would run by the right one, and its test would say nothing of what it tests. */
__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("HEADWATER_DEVICE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, OFFSETS * sizeof *offsets, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        perror("device_clock: HEADWATER_DEVICE_CLOCK names no file to map");
        abort();
    }
    close(file);
    offsets = mapped;
}

static int64_t nanos_of(const struct timespec *time)
{
    return time->tv_sec * SECOND + time->tv_nsec;
}

static void to_timespec(int64_t nanos, struct timespec *time)
{
    time->tv_sec = nanos / SECOND;
    time->tv_nsec = nanos % SECOND;
    if (time->tv_nsec < 0) { /* before 1970 */
        time->tv_nsec += SECOND;
        time->tv_sec -= 1;
    }
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, id, now) != 0)
        return -1;
    if (offsets && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        to_timespec(nanos_of(now) + offsets[WALL], now);
    if (offsets && id == CLOCK_BOOTTIME)
        to_timespec(nanos_of(now) + offsets[BOOT], now);
    return 0;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec fine;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &fine) != 0)
        return -1;
    now->tv_sec = fine.tv_sec;
    now->tv_usec = fine.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}

/* Conditions wait by the wall clock unless they are made otherwise, and in these binaries only librdkafka has
 * any: it makes none otherwise. */
static int wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    for (;;) {
        struct timespec now, look;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t left = nanos_of(until) - nanos_of(&now);
        if (left <= 0)
            return ETIMEDOUT;
        clock_gettime(CLOCK_MONOTONIC, &look);
        to_timespec(nanos_of(&look) + (left < LOOK ? left : LOOK), &look);
        int woken = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &look);
        if (woken != ETIMEDOUT)
            return woken;
    }
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    return wait_until(condition, mutex, until);
}

/* glibc's, which are the same underneath. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    switch (wait_until((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
