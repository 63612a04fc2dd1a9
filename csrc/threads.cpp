// Threads that outlive a call. One that has finished looks out for the next call for a while before it sleeps: waking
// it, or starting another, takes as long as reading a megabyte. Meanwhile nobody waits for it: what it has not begun by
// the time the caller is through with its own part, the caller does itself.
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

// A worker keeps a processor from sleeping for so long after a call, yielding to whoever else wants it.
constexpr std::chrono::microseconds patience(100);

struct Call {
  void (*part)(const void*, int);
  const void* context;
  std::atomic<int> unfinished;
  std::atomic<bool> failed{false};
  std::exception_ptr error{};

  void run(int index) {
    try {
      part(context, index);
    } catch (...) {  // of whatever kind, it belongs to the caller
      if (!failed.exchange(true)) error = std::current_exception();
    }
    unfinished.fetch_sub(1, std::memory_order_release);  // the call may be gone after this
  }
};

struct Task {
  Call* call;
  int index;
};

class Worker {
 public:
  // Throws std::system_error where the system has no thread to give.
  Worker() {
    std::thread([this] { serve(); }).detach();
  }

  void offer(const Task* task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
    }
    changed_.notify_one();
  }

  // The task on offer, for the one who asks first.
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

// Those who have nothing to do. There are as many in all as were ever needed at a time, and they are never given up:
// the process may end, or fork, at any moment.
class Crew {
 public:
  // Up to `wanted` workers.
  std::vector<Worker*> hire(int wanted) {
    std::vector<Worker*> hired;
    hired.reserve(static_cast<size_t>(wanted));
    const std::lock_guard<std::mutex> lock(mutex_);
    for (int i = 0; i < wanted; ++i) {
      if (idle_.empty()) {
        try {
          idle_.reserve(++size_);
          idle_.push_back(new Worker);
        } catch (const std::exception&) {  // no thread or no memory to be had: those there are do it all
          --size_;
          break;
        }
      }
      hired.push_back(idle_.back());
      idle_.pop_back();
    }
    return hired;
  }

  void dismiss(const std::vector<Worker*>& hired) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.insert(idle_.end(), hired.rbegin(), hired.rend());  // the same ones next time
  }

 private:
  std::mutex mutex_;
  std::vector<Worker*> idle_;
  size_t size_ = 0;
};

Crew* crew_of_this_process = nullptr;

// A forked child has none of its parent's threads; the parent's crew is left behind, in whatever state it was.
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
  for (int i = n_hired + 1; i < parts; ++i) call.run(i);  // more than there are threads
  for (Worker* worker : hired)
    if (const Task* task = worker->take()) call.run(task->index);
  while (call.unfinished.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  workers.dismiss(hired);
  if (call.error) std::rethrow_exception(call.error);
}

}  // namespace ncharness
