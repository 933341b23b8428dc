#!/bin/sh
# Runs one Apache Kafka node (KRaft, broker and controller in one) on loopback for tests, in the foreground.
#   deploy/kafka/run.sh FOLDER BROKER_PORT CONTROLLER_PORT
# FOLDER holds its data; an existing one is used again. Jars are fetched into build/kafka (Maven) once for each state of
# pom.xml, offline after that.
set -eu
folder=$1 port=$2 controller=$3
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../.." && pwd)
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
jars=${EUREKA_KAFKA_JARS:-$root/build/kafka/$version}

wanted=$(cksum <"$here/pom.xml")
if [ "$(cat "$jars/.complete" 2>/dev/null)" != "$wanted" ]; then
  mkdir -p "$jars"
  mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  echo "$wanted" >"$jars/.complete"
fi
[ "$folder" = "--fetch" ] && exit 0

mkdir -p "$folder"
cat > "$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
num.network.threads=2
num.io.threads=2
background.threads=2
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.segment.bytes=67108864
PROPERTIES

opts="-Xmx384m -Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
if [ ! -d "$folder/data" ]; then
  printf 'E%s' "$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)" > "$folder/cluster-id"
  java $opts -cp "$jars/*" kafka.tools.StorageTool format --cluster-id "$(cat "$folder/cluster-id")" \
    --config "$folder/server.properties" >&2
fi
exec java $opts -cp "$jars/*" kafka.Kafka "$folder/server.properties"
