#pragma once
// Effective settings, as the program uses them: plain values, filled by load() (options.hpp), whose option
// list says what each of them means, its bounds and its names outside. The initialisers here are the
// defaults. Durations are nanoseconds, sizes bytes.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/policy/rollout_spec.hpp"
#include "runtime/policy/supervision_tree.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::config {

using policy::nanos;

enum class delivery { at_least_once, exactly_once };
enum class output_order { completion, partition };
enum class result_timestamp { produced, request };
enum class timestamp_format { automatic, epoch_ms, iso8601 };
enum class engine { automatic, builtin, onnxruntime };
enum class isolation { process, none };
enum class cache_mode { automatic, on, off };
enum class log_level { debug, info, warn, error };
enum class log_format { automatic, json, text };
enum class log_requests { off, sampled, all };
enum class auth_mode { off, required };
using policy::restart_strategy;

struct kafka_settings {
  bool enabled = true;
  std::string brokers = "127.0.0.1:9092";  ///< "embedded": the broker in the process
  std::string group = "inference-service";
  std::string requests_topic = "inference-requests";
  std::string results_topic = "inference-results";
  std::string dead_letter_topic = "inference-requests-dlq";
  std::string parking_topic;  ///< empty: nothing is parked
  config::delivery delivery = delivery::at_least_once;
  config::output_order output_order = output_order::completion;
  std::size_t transaction_records = 10'000;
  nanos transaction_timeout = 10 * policy::second;
  std::size_t transaction_groups = 1;
  std::string transactional_id;               ///< empty: from instance_id, or unique to the process
  std::string instance_id;                    ///< empty: a new member each start
  nanos ready_timeout = 30 * policy::second;  ///< 0: a node is ready without Kafka
  std::string default_class = "bulk";         ///< kafka.class
  nanos queue_timeout = 0;                    ///< 0: none
  std::size_t max_record_bytes = std::size_t{1} << 20;
  std::size_t credit_records = 8192;  ///< a partition
  std::size_t credit_bytes = 0;       ///< a partition; 0: follows from memory.limit
  std::size_t poll_records = 1024;
  nanos gather_min = 0;
  nanos gather_max = 10 * policy::millisecond;
  config::result_timestamp result_timestamp = result_timestamp::request;
  config::timestamp_format timestamp_format = config::timestamp_format::automatic;
  int embedded_partitions = 4;
  bool eventhub = false;            ///< Azure Event Hubs: load() then fills in brokers, topics, properties
  std::string eventhub_connection;  ///< a secret
  bool eventhub_transactions = false;
  std::map<std::string, std::string> properties;  ///< librdkafka's, passed through

  /// Whether `timestamp` in results is a text.
  [[nodiscard]] bool iso_timestamps() const {
    return timestamp_format == config::timestamp_format::iso8601 ||
           (timestamp_format == config::timestamp_format::automatic && eventhub);
  }
};

struct tls_settings {
  std::string certificate;  ///< PEM file; empty: no TLS
  std::string key;
  std::string client_ca;  ///< empty: clients need no certificate
  bool client_required = false;
};

struct http_settings {
  bool enabled = true;
  std::string bind = "0.0.0.0";
  int port = 8080;                            ///< 0: any free one
  std::size_t threads = 0;                    ///< 0: a quarter of the cores, at least one
  std::string default_class;                  ///< http.class; empty: the first
  nanos queue_timeout = 30 * policy::second;  ///< a request without a time-out of its own
  std::string deployment = "troupe";          ///< in the answers of /score
  bool admission = true;
  std::size_t max_body = std::size_t{10} << 20;
  std::size_t max_header = std::size_t{16} << 10;
  std::size_t max_elements = 100'000;  ///< a request
  std::size_t max_connections = 10'000;
  std::size_t max_requests = 10'000;                 ///< that wait for an answer
  std::size_t max_buffered = std::size_t{64} << 20;  ///< bodies that are being read
  nanos read_timeout = 10 * policy::second;
  nanos idle_timeout = 60 * policy::second;
  bool compress_replies = false;
  std::string cors_origins;     ///< with commas; "*": any
  std::string trusted_proxies;  ///< networks, with commas
  tls_settings tls;
};

struct grpc_settings {
  bool enabled = true;
  std::string bind = "0.0.0.0";
  int port = 8081;            ///< 0: any free one
  std::string default_class;  ///< grpc.class; empty: the first
  std::size_t threads = 0;    ///< 0: a quarter of the cores, at least one
  nanos queue_timeout = 30 * policy::second;
  std::size_t max_message = std::size_t{10} << 20;
  std::size_t max_streams = 1'000;        ///< a connection
  nanos keepalive = 60 * policy::second;  ///< 0: never
  nanos keepalive_timeout = 20 * policy::second;
  nanos idle_timeout = 0;  ///< 0: none
  nanos max_age = 0;       ///< of a connection; 0: any
  tls_settings tls;
};

struct auth_settings {
  auth_mode mode = auth_mode::off;
  std::string keys_file;          ///< empty: no API keys
  std::string exempt = "health";  ///< with commas: health, metrics, docs
  std::string jwks_file;          ///< this or
  std::string jwks_url;           ///< this, or neither: no tokens
  nanos jwks_refresh = 300 * policy::second;
  std::string jwks_tls_ca;
  std::string jwt_issuer, jwt_audience;  ///< empty: not looked at
  std::string jwt_client_claim = "sub";
  nanos jwt_leeway = 60 * policy::second;
};

struct rate_limit_settings {
  bool enabled = false;
  double per_minute = 100;              ///< an address
  double burst = 0;                     ///< 0: per_minute
  std::uint64_t per_month = 1'000'000;  ///< a client; 0: no quota
  std::size_t addresses = 100'000;      ///< that are remembered
};

struct batches_settings {
  std::string directory;                         ///< of batches over HTTP; empty: there are none
  std::string input_directory;                   ///< inputs may be named by a path in it; empty: none may
  std::string batch_class;                       ///< batches.class; empty: the last
  std::size_t max_bytes = std::size_t{1} << 30;  ///< of an input
  std::size_t max_line = std::size_t{1} << 20;
  std::size_t max_queued = 100;
  std::size_t in_flight = 4096;  ///< lines
  nanos retention = 7 * 24 * 3600 * policy::second;
};

struct models_settings {
  std::string directory = "models";
  std::string default_model;  ///< models.default
  bool fallback = true;
  nanos stall_limit = 60 * policy::second;
  double credit_share = 0.5;
  nanos time_limit = 30 * policy::second;  ///< a call of an engine; 0: none
  std::uint32_t max_hung = 8;
  std::size_t max_rows = 10'000;  ///< a request
  bool watch = true;
  nanos poll_interval = 10 * policy::second;
  config::engine engine = engine::automatic;
  bool explain = false;
  std::size_t max_explained_rows = 100;  ///< a request
};

struct onnxruntime_settings {
  std::string library;  ///< empty: the one of scripts/deps, else the system's
  int intra_op_threads = 1;
  std::string providers = "cpu";  ///< with commas
  config::isolation isolation = isolation::process;
  nanos timeout = 10 * policy::second;  ///< a batch
};

struct mlflow_settings {
  std::string uri;     ///< empty: no registry
  std::string models;  ///< references, separated by commas
  nanos poll_interval = 30 * policy::second;
  nanos timeout = 10 * policy::second;
  std::string username, password, token;
  std::string tls_ca;
  std::string cache_directory = "registry-cache";
  std::size_t cache_versions = 5;
  std::size_t max_version_bytes = std::size_t{2} << 30;
};

struct cache_settings {
  cache_mode mode = cache_mode::automatic;
  std::size_t bytes = std::size_t{16} << 20;
  nanos ttl = 3600 * policy::second;
};

struct redis_settings {
  std::string host;  ///< empty: no Redis
  int port = 6379;
  std::string user;
  std::string password;
  int db = 0;
  bool tls = false;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  nanos budget = 2 * policy::millisecond;
  nanos connect_timeout = policy::second;
  std::uint32_t breaker_threshold = 5;
  nanos breaker_open = 5 * policy::second;
};

struct scheduler_settings {
  std::size_t slots = 0;  ///< 0: as many as cores
  std::size_t max_batch = 1024;
  nanos max_batch_time = 5 * policy::millisecond;
  double late_floor = 0.002;
};

/// A class of service; its place in the list is its priority.
struct class_settings {
  std::string name;
  nanos target = policy::second;
  std::size_t limit = 100'000;
  bool shed_late = false;  ///< on_late: shed
  double floor = 0;
};

struct breaker_settings {
  std::uint32_t threshold = 5;
  nanos open = 60 * policy::second;
  std::uint32_t probes = 1;
  double failure_rate = 0.5;
  std::uint32_t min_calls = 20;
  nanos window = 10 * policy::second;
};

struct supervision_settings {
  std::uint32_t intensity = 10;
  nanos period = 60 * policy::second;
  std::uint32_t group_intensity = 3;
  nanos group_period = 600 * policy::second;
  restart_strategy kafka_strategy = restart_strategy::one_for_one;
  restart_strategy stores_strategy = restart_strategy::one_for_one;
  restart_strategy models_strategy = restart_strategy::one_for_one;
  restart_strategy model_strategy = restart_strategy::one_for_one;  ///< of each version
  restart_strategy gateways_strategy = restart_strategy::one_for_one;
  nanos stuck_after = 30 * policy::second;  ///< 0: nobody is watched
  std::size_t max_abandoned = 16;
  nanos backoff_min = 50 * policy::millisecond;
  nanos backoff_max = 10 * policy::second;
};

struct metrics_settings {
  std::string bind = "0.0.0.0";
  int port = 8000;  ///< 0: any free one
};

struct admin_settings {
  std::string token;  ///< empty: no /admin
};

struct log_settings {
  log_level level = log_level::info;
  log_format format = log_format::automatic;
  log_requests requests = log_requests::off;
  double sample_ratio = 0.01;           ///< of what `sampled` has a choice about
  nanos slow_request = policy::second;  ///< what took so long is told in any case; 0: nothing is slow
};

struct tracing_settings {
  std::string endpoint;           ///< of an OTLP/HTTP receiver; empty: no tracing
  std::string headers;            ///< NAME=VALUE, with commas; sent with every export
  std::string tls_ca;             ///< empty: the system's
  double sample_ratio = 0.01;     ///< of the requests over HTTP and gRPC that come without a trace
  double kafka_sample_ratio = 0;  ///< the same of Kafka's records
  std::string service_name = "troupe";
  std::string service_instance;  ///< empty: one is made
  std::size_t queue = 4096;      ///< finished spans
  nanos interval = policy::second;
  nanos timeout = 10 * policy::second;  ///< an attempt
};

struct memory_settings {
  std::size_t limit = std::size_t{160} << 20;
};

struct drain_settings {
  nanos deadline = 30 * policy::second;
};

struct faults_settings {
  bool enabled = false;
  nanos max_duration = 600 * policy::second;
  std::size_t max_memory = std::size_t{1} << 30;
};

struct settings {
  kafka_settings kafka;
  http_settings http;
  grpc_settings grpc;
  auth_settings auth;
  rate_limit_settings rate_limit;
  batches_settings batches;
  models_settings models;
  mlflow_settings mlflow;
  onnxruntime_settings onnxruntime;
  cache_settings cache;
  redis_settings redis;
  scheduler_settings scheduler;
  std::vector<class_settings> classes = {{"interactive", 100 * policy::millisecond, 100'000, false, 0},
                                         {"standard", policy::second, 100'000, false, 0},
                                         {"bulk", 60 * policy::second, 100'000, false, 0}};
  std::vector<policy::rollout_spec> rollout;
  breaker_settings breaker;
  supervision_settings supervision;
  metrics_settings metrics;
  admin_settings admin;
  log_settings log;
  tracing_settings tracing;
  memory_settings memory;
  drain_settings drain;
  faults_settings faults;
};

}  // namespace troupe::config
