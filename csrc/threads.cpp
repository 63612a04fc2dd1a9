// Persistent thread pool. Workers are kept from call to call.
//
// A worker that has finished its part spins for a short time (`patience`) before it sleeps, because waking a thread or
// starting a new one takes about as long as reading a megabyte of memory. The caller never waits for a worker to wake
// up: it runs part 0 itself, then takes back every part that no worker has started. Threads are not pinned to
// processors.
#include "threads.hpp"

#ifndef _WIN32
#include <pthread.h>
#endif

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace ncharness {
namespace {

// How long a worker spins after a call before it sleeps. It yields the processor to other threads while it spins.
constexpr std::chrono::microseconds patience(100);

// One call of run_parts. It lives on the caller's stack.
struct Call {
  void (*part)(const void*, int);
  const void* context;
  std::atomic<int> unfinished;
  std::atomic<bool> failed{false};
  std::exception_ptr error{};

  void run(int index) {
    try {
      part(context, index);
    } catch (...) {  // any exception is passed on to the caller
      if (!failed.exchange(true)) error = std::current_exception();
    }
    unfinished.fetch_sub(1, std::memory_order_release);  // `this` may be destroyed after this line
  }
};

struct Task {
  Call* call;
  int index;
};

class Worker {
 public:
  // Throws std::system_error if the system cannot start a thread.
  Worker() {
    std::thread([this] { serve(); }).detach();
  }

  // Hands the worker a task and wakes it.
  void offer(const Task* task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
    }
    changed_.notify_one();
  }

  // Claims the offered task; null if it has already been claimed. Called by the worker and by the caller of run_parts.
  const Task* take() { return task_.exchange(nullptr); }

 private:
  [[noreturn]] void serve() {
    for (;;) {
      const auto asleep = std::chrono::steady_clock::now() + patience;
      while (!task_.load(std::memory_order_relaxed) && std::chrono::steady_clock::now() < asleep)
        std::this_thread::yield();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return task_.load() != nullptr; });
      }
      if (const Task* task = take()) task->call->run(task->index);
    }
  }

  std::atomic<const Task*> task_{nullptr};
  std::mutex mutex_;
  std::condition_variable changed_;
};

// The idle workers. Workers are created on demand and never destroyed, so that the process can exit or fork at any
// time. Their number is the largest number that was needed at the same time.
class Crew {
 public:
  // Takes up to `wanted` workers out of the pool, and starts new ones as needed.
  std::vector<Worker*> hire(int wanted) {
    std::vector<Worker*> hired;
    hired.reserve(static_cast<size_t>(wanted));
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int i = 0; i < wanted; ++i) {
      if (idle_.empty()) {
        try {
          idle_.reserve(++size_);
          idle_.push_back(new Worker);
        } catch (const std::exception&) {  // no thread or no memory: fewer workers do all parts
          --size_;
          break;
        }
      }
      hired.push_back(idle_.back());
      idle_.pop_back();
    }
    return hired;
  }

  // Puts workers back into the pool.
  void dismiss(const std::vector<Worker*>& hired) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.insert(idle_.end(), hired.rbegin(), hired.rend());  // reversed: hire() returns the same ones next time
  }

 private:
  std::mutex mutex_;
  std::vector<Worker*> idle_;
  size_t size_ = 0;
};

Crew* crew_of_this_process = nullptr;

// The pool of this process. A forked child has none of its parent's threads, so it gets a new, empty pool. It leaks the
// parent's pool, whose mutex may be locked.
Crew& crew() {
  static const bool registered = [] {
    crew_of_this_process = new Crew;
#ifndef _WIN32
    pthread_atfork(nullptr, nullptr, [] { crew_of_this_process = new Crew; });
#endif
    return true;
  }();
  (void)registered;
  return *crew_of_this_process;
}

}  // namespace

void run_parts(int parts, void (*part)(const void* context, int index), const void* context) {
  if (parts == 1) return part(context, 0);
  Call call{part, context, {parts}};
  std::vector<Task> tasks;
  for (int i = 0; i < parts; ++i) tasks.push_back({&call, i});
  Crew& workers = crew();
  const std::vector<Worker*> hired = workers.hire(parts - 1);
  const int n_hired = static_cast<int>(hired.size());
  for (int i = 0; i < n_hired; ++i) hired[static_cast<size_t>(i)]->offer(&tasks[static_cast<size_t>(i) + 1]);
  call.run(0);
  for (int i = n_hired + 1; i < parts; ++i) call.run(i);  // parts for which there is no worker
  for (Worker* worker : hired)
    if (const Task* task = worker->take()) call.run(task->index);
  while (call.unfinished.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  workers.dismiss(hired);
  if (call.error) std::rethrow_exception(call.error);
}

}  // namespace ncharness
