/* On purpose: whether C11 threads are there is what librdkafka's CMake build asks by compiling a program. glibc's
 * cnd_timedwait goes by the wall clock alone; without it librdkafka takes its own threads over pthread, whose waits
 * pthread.h beside this turns to the monotonic clock. Nothing else that is compiled into headwater includes it. */
#error "librdkafka is to take its own threads: msk/include/pthread.h"
