// What csrc/threads.hpp promises and no call from Python can bring about; test_threads.py builds and runs it.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "threads.hpp"

namespace {

constexpr int parts = 4;

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::_Exit(1);
}

template <class Work>
void run(const Work& work) {
  ncharness::run_parts(
      parts, [](const void* context, int index) { (*static_cast<const Work*>(context))(index); }, &work);
}

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

// The threads that worked on the parts, of which at least `together` wait for each other before they go on.
std::set<std::thread::id> threads_of_a_call(int together) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::vector<int> times(parts);
  std::atomic<int> begun{0};
  const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  run([&](int index) {
    ++begun;
    while (begun < together && std::chrono::steady_clock::now() < late) std::this_thread::yield();
    const std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
    ++times[static_cast<size_t>(index)];
  });
  for (const int count : times) expect(count == 1, "a part ran " + std::to_string(count) + " times");
  return threads;
}

void side_by_side() {
  expect(threads_of_a_call(parts).size() == parts, "threads that are new were not all used");
  pause();
  expect(threads_of_a_call(parts).size() == parts, "threads that were asleep were not all woken");
}

void kept() {
  std::set<std::thread::id> threads;
  for (int call = 0; call < 20; ++call)
    for (const std::thread::id id : threads_of_a_call(parts)) threads.insert(id);
  expect(threads.size() == parts, std::to_string(threads.size()) + " threads for calls of " + std::to_string(parts));
}

void exceptions() {
  for (int thrower = 0; thrower < parts; ++thrower) {
    std::atomic<int> ended{0};
    std::string caught;
    try {
      run([&](int index) {
        if (index == thrower) throw std::runtime_error(std::to_string(index));
        pause();
        ++ended;
      });
    } catch (const std::runtime_error& error) {
      expect(ended == parts - 1, "the exception came before the other parts had ended");
      caught = error.what();
    }
    expect(caught == std::to_string(thrower), "the exception of part " + std::to_string(thrower) + " was lost");
    expect(threads_of_a_call(parts).size() == parts, "an exception cost a thread");
  }
}

#ifndef _WIN32
void forked() {
  threads_of_a_call(parts);
  const pid_t child = fork();
  if (child == 0) {
    expect(threads_of_a_call(parts).size() == parts, "a forked child has no threads of its own");
    std::_Exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  expect(status == 0, "the forked child failed");
  side_by_side();
}
#endif

#ifdef __GLIBC__
void stack_size(size_t bytes) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  expect(pthread_attr_setstacksize(&attributes, bytes) == 0, "no such stack size");
  expect(pthread_setattr_default_np(&attributes) == 0, "the stack size cannot be set");
  pthread_attr_destroy(&attributes);
}

void no_thread_to_be_had() {
  const size_t usual = 1 << 20, beyond_memory = size_t{1} << 60;
  stack_size(beyond_memory);
  for (int call = 0; call < 3; ++call) expect(threads_of_a_call(1).size() == 1, "the caller should have been alone");
  stack_size(usual);
  ncharness::run_parts(2, [](const void*, int) { pause(); }, nullptr);  // one worker
  stack_size(beyond_memory);
  expect(threads_of_a_call(2).size() == 2, "there was one thread besides the caller's");
  stack_size(usual);
  side_by_side();
}
#endif

}  // namespace

int main(int, char** arguments) {
  const std::string name = arguments[1];
  if (name == "side by side") return side_by_side(), 0;
  if (name == "kept from call to call") return kept(), 0;
  if (name == "exceptions") return exceptions(), 0;
#ifndef _WIN32
  if (name == "after a fork") return forked(), 0;
#endif
#ifdef __GLIBC__
  if (name == "no thread to be had") return no_thread_to_be_had(), 0;
#endif
  return 77;  // not on this system
}
