// Starts threads that walk through the generated units and then wait, or die at the end of the walk.
#include "walk.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

extern Step *const all_steps[];
extern const int step_count;

static std::atomic<int> arrived{0};

__attribute__((noinline)) static int arrive(Walk *walk) {
  arrived++;
  if (!walk->die || walk->seed != 0) {
    for (;;) pause();
  }
  volatile int *nothing = nullptr;
  return *nothing;
}

__attribute__((noinline)) int next_step(Walk *walk, int depth) {
  int result;
  if (depth >= walk->depth) {
    result = arrive(walk);
  } else {
    long which = (long)walk->seed * 7 + (long)depth * 13;
    result = all_steps[which % step_count](walk, depth);
  }
  keep(&result);
  return result;
}

static void *worker(void *at) {
  Walk walk = *static_cast<Walk *>(at);
  int result = next_step(&walk, 0);
  keep(&result);
  return nullptr;
}

// Shared page: longest gap between two looks at the clock (ns), and a word that asks for a fresh start.
static void *watch_clock(void *at) {
  auto *page = static_cast<volatile uint64_t *>(at);
  uint64_t last = 0;
  for (;;) {
    timespec rest{0, 100000}, now{};
    nanosleep(&rest, nullptr);
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (page[1]) {
      page[0] = 0;
      page[1] = 0;
    } else if (last && ns - last > page[0]) {
      page[0] = ns - last;
    }
    last = ns;
  }
}

// Fills memory with what no compressor makes small for nothing: three words of four are noise.
static void fill(size_t bytes) {
  auto *words = static_cast<uint64_t *>(
      mmap(nullptr, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (words == MAP_FAILED) exit(7);
  uint64_t state = 88172645463325252u;
  for (size_t n = 0; n < bytes / sizeof *words; n++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    words[n] = n % 4 ? state : n;
  }
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: workload wait|die THREADS DEPTH [CLOCK-FILE [MAPPINGS [RESERVED-MIB [RESIDENT-MIB]]]]\n");
    return 2;
  }
  int threads = atoi(argv[2]);
  pthread_t id;
  if (argc > 4) {
    int fd = open(argv[4], O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, 4096)) return 3;
    void *page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || pthread_create(&id, nullptr, watch_clock, page)) return 3;
  }
  if (argc > 5 && atol(argv[5]) > 0) {
    // Neighbours with different protections are mappings of their own.
    long wanted = atol(argv[5]), page_size = sysconf(_SC_PAGESIZE);
    char *pages = static_cast<char *>(mmap(nullptr, wanted * page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pages == MAP_FAILED) return 5;
    for (long i = 1; i < wanted; i += 2) {
      if (mprotect(pages + i * page_size, page_size, PROT_READ | PROT_WRITE)) return 5;
    }
  }
  // Memory of which one page is used makes a core long, memory that is filled makes it large.
  if (argc > 6) {
    size_t reserved = ((size_t)atol(argv[6]) << 20) + 4096;
    void *at = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return 6;
    *static_cast<volatile char *>(at) = 1;
  }
  if (argc > 7) fill((size_t)atol(argv[7]) << 20);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  auto *walks = new Walk[threads];
  for (int i = 0; i < threads; i++) {
    walks[i] = Walk{i, atoi(argv[3]), !strcmp(argv[1], "die")};
    if (i && pthread_create(&id, &attributes, worker, &walks[i])) return 4;
  }
  while (arrived < threads - 1) usleep(1000);
  puts("ready");
  fflush(stdout);
  return next_step(&walks[0], 0);
}
