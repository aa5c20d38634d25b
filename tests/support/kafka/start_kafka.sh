#!/bin/bash
# Starts Apache Kafka on loopback for tests, waits until it is ready, prints "NODE PID PORT" a line. No ZooKeeper, no
# service: a Java process a node, everything in one folder.
#   start_kafka.sh --data DIR [--nodes N] [--port P] [--tls] [--secret STRING]   a fresh cluster; DIR is emptied first
#   start_kafka.sh --data DIR --node N                                          node N of that cluster again, data kept
#   start_kafka.sh --data DIR --stop [--node N]                                 stops all nodes, or one
#   start_kafka.sh --install                                                    fetches the jars by Maven, once
# Without --port free ports are taken; with it node i has P+10(i-1): plain, +1 controller, +2 SASL_SSL (with --tls; the
# authority is DIR/certificates/ca.pem, the user $ConnectionString, the password --secret).
# The brokers outlive this script. DIR/nodeN holds pid, port, tls_port, log and server.properties.
# Environment: KAFKA_JARS (default <repository>/.deps/kafka), KAFKA_HEAP (512m), KAFKA_JVM (more options for Java),
# KAFKA_HOST (127.0.0.1), another address of this machine that the plain listeners listen at, as in a network namespace.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=3.9.1
jars=${KAFKA_JARS:-$(cd "$here/../../.." && pwd)/.deps/kafka}

die() {
  echo "start_kafka.sh: $*" >&2
  exit 1
}

data='' nodes=1 port='' tls='' node='' action=start
secret='Endpoint=sb://localhost/;SharedAccessKeyName=test;SharedAccessKey=c2VjcmV0'
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=${2:?}; shift ;;
    --nodes) nodes=${2:?}; shift ;;
    --port) port=${2:?}; shift ;;
    --node) node=${2:?}; shift ;;
    --secret) secret=${2:?}; shift ;;
    --tls) tls=1 ;;
    --stop) action=stop ;;
    --install) action=install ;;
    *) die "unknown option $1" ;;
  esac
  shift
done

java_options() {  # into $jvm
  jvm=(-cp "$jars/*" -XX:+UseSerialGC -XX:-UsePerfData -Xshare:auto -Djava.awt.headless=true
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS)
  # A class-data archive halves the CPU time of a start. One of another Java version is silently not used.
  [ ! -f "$jars/classes.jsa" ] || jvm+=(-XX:SharedArchiveFile="$jars/classes.jsa" -Xlog:cds=off -Xlog:cds+dynamic=off)
}

# alive NODE: its process runs, and is still the one that was started (pids are used again).
alive() {
  local pid
  pid=$(cat "$data/node$1/pid" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$data/node$1/server.properties"
}

launch() {
  local folder=$data/node$1
  : >"$folder/log"
  # shellcheck disable=SC2086
  setsid nohup java "${jvm[@]}" -Xms128m -Xmx"${KAFKA_HEAP:-512m}" ${KAFKA_JVM:-} kafka.Kafka "$folder/server.properties" \
    </dev/null >>"$folder/log" 2>&1 &
  echo $! >"$folder/pid"
}

wait_ready() {
  local folder=$data/node$1 deadline=$((SECONDS + 120))
  until grep -q 'Kafka Server started' "$folder/log"; do
    kill -0 "$(cat "$folder/pid")" 2>/dev/null || { tail -n 20 "$folder/log" >&2; die "node $1 ended while starting"; }
    [ $SECONDS -lt $deadline ] || { tail -n 20 "$folder/log" >&2; die "node $1 is not ready after 120 s"; }
    sleep 0.05
  done
  echo "$1 $(cat "$folder/pid") $(cat "$folder/port")"
}

stop() {  # NODE...
  local one deadline=$((SECONDS + 30))
  for one in "$@"; do ! alive "$one" || kill "$(cat "$data/node$one/pid")" 2>/dev/null || true; done
  for one in "$@"; do
    while alive "$one"; do
      [ $SECONDS -lt $deadline ] || kill -9 "$(cat "$data/node$one/pid")" 2>/dev/null || true
      sleep 0.05
    done
  done
}

if [ $action = install ]; then
  mkdir -p "$jars"
  if [ "$(cat "$jars/stamp" 2>/dev/null)" = "$version" ]; then
    echo "Kafka $version is in $jars" >&2
    exit 0
  fi
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mvn -B -q -ntp -f "$here/pom.xml" -Dkafka.version=$version dependency:copy-dependencies -DoutputDirectory="$jars" \
    -DincludeScope=runtime >"$scratch/maven.log" 2>&1 ||
    { cat "$scratch/maven.log" >&2; die "Maven could not fetch Kafka's jars (see above)"; }
  rm -f "$jars/classes.jsa"
  # One start that is thrown away writes the archive of the classes it loaded when it ends.
  KAFKA_JARS=$jars KAFKA_JVM="-XX:ArchiveClassesAtExit=$scratch/classes.jsa -Xlog:cds=off -Xlog:cds+dynamic=off" "$0" --data "$scratch/data" >/dev/null
  "$0" --data "$scratch/data" --stop
  [ ! -f "$scratch/classes.jsa" ] || mv "$scratch/classes.jsa" "$jars/"
  echo "$version" >"$jars/stamp"
  echo "Kafka $version is in $jars" >&2
  exit 0
fi

[ -n "$data" ] || die "--data DIR is needed"
if [ $action = stop ]; then
  [ -d "$data" ] || exit 0
  data=$(cd "$data" && pwd)
  if [ -n "$node" ]; then
    stop "$node"
  else
    mapfile -t all < <(find "$data" -maxdepth 1 -name 'node*' | sed 's/.*node//' | sort)
    stop "${all[@]}"
  fi
  exit 0
fi

compgen -G "$jars/kafka_2.13-*.jar" >/dev/null || die "no Kafka in $jars: run scripts/deps --test"
jars=$(cd "$jars" && pwd)
java_options
if [ -n "$node" ]; then
  data=$(cd "$data" && pwd)
  ! alive "$node" || die "node $node is running"
  launch "$node"
  wait_ready "$node"
  exit 0
fi

mkdir -p "$data"
data=$(cd "$data" && pwd)
rm -rf "$data"/node* "$data/certificates"
[ -z "$tls" ] || "$here/make_certificates.sh" "$data/certificates"
if [ -n "$port" ]; then
  ports=()
  for i in $(seq "$nodes"); do ports+=($((port + 10 * (i - 1))) $((port + 10 * (i - 1) + 1)) $((port + 10 * (i - 1) + 2))); done
else
  mapfile -t ports < <(python3 "$here/../troupe_test.py" free-ports $((3 * nodes)))
fi
voters=$(for i in $(seq "$nodes"); do printf '%s%s@127.0.0.1:%s' "${comma:-}" "$i" "${ports[3 * i - 2]}"; comma=,; done)
replicas=$((nodes < 3 ? nodes : 3))
in_sync=$((replicas > 1 ? replicas - 1 : 1))
cluster=t$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | cut -c1-21)
for i in $(seq "$nodes"); do
  folder=$data/node$i
  plain=${ports[3 * i - 3]} sasl=${ports[3 * i - 1]} listener='' advertised=''
  mkdir -p "$folder"
  echo "$plain" >"$folder/port"
  if [ -n "$tls" ]; then
    echo "$sasl" >"$folder/tls_port"
    listener=",SASL_SSL://127.0.0.1:$sasl"
    advertised=",SASL_SSL://localhost:$sasl"
  fi
  cat "$here/server.properties" ${tls:+"$here/server-tls.properties"} |
    sed -e "s|@HOST@|${KAFKA_HOST:-127.0.0.1}|g" -e "s|@NODE@|$i|;s|@VOTERS@|$voters|;s|@PORT@|$plain|g;s|@CONTROLLER_PORT@|${ports[3 * i - 2]}|;s|@DATA@|$folder/data|" \
      -e "s|@TLS_LISTENER@|$listener|;s|@TLS_ADVERTISED@|$advertised|;s|@REPLICAS@|$replicas|;s|@IN_SYNC@|$in_sync|" \
      -e "s|@CERTIFICATES@|$data/certificates|;s|@SECRET@|${secret//|/\\|}|" >"$folder/server.properties"
  # Alone there is nobody to fail over to: a broker whose disk stalls for seconds must not fence itself soon (a restart waits as long).
  [ "$nodes" -gt 1 ] || echo 'broker.session.timeout.ms=12000' >>"$folder/server.properties"
  java "${jvm[@]}" -XX:TieredStopAtLevel=1 -Xmx128m kafka.tools.StorageTool format -t "$cluster" -c "$folder/server.properties" \
    >"$folder/format.log" 2>&1 || { cat "$folder/format.log" >&2; die "formatting node $i failed"; }
done
for i in $(seq "$nodes"); do launch "$i"; done
for i in $(seq "$nodes"); do wait_ready "$i"; done
