#include "runtime/kafka/transaction_heir.hpp"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace troupe::kafka {
namespace {

constexpr std::string_view mark = "troupe ";
constexpr int answer_ms = 5'000;
constexpr int slice_ms = 200;

struct event_deleter {
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
};
using event_ptr = std::unique_ptr<rd_kafka_event_t, event_deleter>;
struct queue_deleter {
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
};
struct error_deleter {
  void operator()(rd_kafka_error_t* error) const { rd_kafka_error_destroy(error); }
};

}  // namespace

std::string to_metadata(const committer& c) {
  return std::string(mark) + c.member + ' ' + c.transactional_id;
}

committer from_metadata(std::string_view text) {
  if (!text.starts_with(mark)) return {};
  text.remove_prefix(mark.size());
  const auto space = text.find(' ');
  if (space == std::string_view::npos || space == 0) return {};
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

struct transaction_heir::impl {
  rd_kafka_t* consumer;
  std::string group;
  std::string topic;
  sink_options sink;
  std::set<std::string> own_ids;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::int32_t> asked;  // guarded
  bool stopped = false;             // guarded
  std::thread thread;

  [[nodiscard]] bool stopping() {
    const std::lock_guard lock(mutex);
    return stopped;
  }

  void say(int level, const std::string& text) const {
    if (sink.log) sink.log(level, "TRANSACTION", text);
  }

  void run() {
    for (;;) {
      std::vector<std::int32_t> partitions;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [this] { return stopped || !asked.empty(); });
        if (stopped) return;
        partitions.swap(asked);
      }
      const auto committers = committers_of(partitions);
      if (committers.empty()) continue;
      const auto members = members_now();
      if (!members) continue;
      std::set<std::string> dead;
      for (const auto& c : committers)
        if (!members->contains(c.member)) dead.insert(c.transactional_id);
      for (const auto& id : dead) end_those_of(id);
    }
  }

  /// The answer to an admin request; null: none came in time.
  event_ptr answer(const std::function<void(rd_kafka_queue_t*)>& ask) {
    const std::unique_ptr<rd_kafka_queue_t, queue_deleter> queue(rd_kafka_queue_new(consumer));
    ask(queue.get());
    for (int waited = 0; waited < answer_ms && !stopping(); waited += slice_ms)
      if (event_ptr event{rd_kafka_queue_poll(queue.get(), slice_ms)}) return event;
    return nullptr;
  }

  /// Who committed these partitions last, but for ourselves.
  std::vector<committer> committers_of(const std::vector<std::int32_t>& partitions) {
    auto* list = rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size()));
    for (const auto p : partitions) rd_kafka_topic_partition_list_add(list, topic.c_str(), p);
    auto* request = rd_kafka_ListConsumerGroupOffsets_new(group.c_str(), list);
    rd_kafka_topic_partition_list_destroy(list);
    const auto event = answer([&](rd_kafka_queue_t* queue) {
      rd_kafka_ListConsumerGroupOffsets(consumer, &request, 1, nullptr, queue);
    });
    rd_kafka_ListConsumerGroupOffsets_destroy(request);
    std::vector<committer> out;
    const auto* result = event ? rd_kafka_event_ListConsumerGroupOffsets_result(event.get()) : nullptr;
    if (!result || rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) return out;
    std::size_t n = 0;
    const auto** groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &n);
    if (n == 0) return out;
    const auto* found = rd_kafka_group_result_partitions(groups[0]);
    for (int i = 0; found && i < found->cnt; ++i) {
      const auto& p = found->elems[i];
      auto c = from_metadata({static_cast<const char*>(p.metadata), p.metadata ? p.metadata_size : 0});
      if (!c.transactional_id.empty() && !own_ids.contains(c.transactional_id)) out.push_back(std::move(c));
    }
    return out;
  }

  std::optional<std::set<std::string>> members_now() {
    const char* name = group.c_str();
    const auto event = answer([&](rd_kafka_queue_t* queue) {
      rd_kafka_DescribeConsumerGroups(consumer, &name, 1, nullptr, queue);
    });
    const auto* result = event ? rd_kafka_event_DescribeConsumerGroups_result(event.get()) : nullptr;
    if (!result || rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) return std::nullopt;
    std::size_t n = 0;
    const auto** groups = rd_kafka_DescribeConsumerGroups_result_groups(result, &n);
    if (n == 0) return std::nullopt;
    const auto* error = rd_kafka_ConsumerGroupDescription_error(groups[0]);
    if (error && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR_NO_ERROR) return std::nullopt;
    std::set<std::string> members;
    for (std::size_t i = 0; i < rd_kafka_ConsumerGroupDescription_member_count(groups[0]); ++i)
      members.insert(
          rd_kafka_MemberDescription_consumer_id(rd_kafka_ConsumerGroupDescription_member(groups[0], i)));
    return members;
  }

  void end_those_of(const std::string& id) {
    auto options = sink;
    options.transactional_id = id;
    options.log = nullptr;
    try {
      const auto producer = make_librdkafka_sink(options);
      std::string why;
      for (int waited = 0; waited < answer_ms && !stopping(); waited += 1'000) {
        const std::unique_ptr<rd_kafka_error_t, error_deleter> error(
            rd_kafka_init_transactions(producer->handle(), 1'000));
        if (!error) return say(6, "ended what '" + id + "' left open: its member is gone");
        why = rd_kafka_error_string(error.get());
        if (!rd_kafka_error_is_retriable(error.get())) break;
      }
      say(4, "can't end what '" + id + "' left open, brokers will: " + why);
    } catch (const property_error& e) {
      say(4, std::string("can't end what '") + id + "' left open: " + e.what());
    }
  }
};

transaction_heir::transaction_heir(rd_kafka_s* consumer, std::string group, std::string topic,
                                   sink_options sink, std::set<std::string> own_ids)
    : impl_(std::make_unique<impl>()) {
  impl_->consumer = consumer;
  impl_->group = std::move(group);
  impl_->topic = std::move(topic);
  impl_->sink = std::move(sink);
  impl_->own_ids = std::move(own_ids);
  impl_->thread = std::thread([i = impl_.get()] {
    pthread_setname_np(pthread_self(), "kafka-heir");
    i->run();
  });
}

transaction_heir::~transaction_heir() {
  stop();
}

void transaction_heir::assigned(std::vector<std::int32_t> partitions) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->asked.insert(impl_->asked.end(), partitions.begin(), partitions.end());
  }
  impl_->changed.notify_one();
}

void transaction_heir::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopped = true;
  }
  impl_->changed.notify_one();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace troupe::kafka
