#!/bin/sh
# The least that each of our users needs on a Kafka with ACLs, topic by topic; run once, as a user who may alter them.
#   deploy/kafka/acls.sh BOOTSTRAP_SERVER ADMIN_PROPERTIES [TOPIC_PREFIX [GROUP_ID]]
# ADMIN_PROPERTIES is a Kafka client's property file (its password stands there, not on the command line).
# Users: eureka-worker runs `eureka worker`, call-center sends audio, dashboard reads results. `eureka topics create`
# is the administrator's. Nobody may read what call-center sends but the worker, and nobody else may write results.
set -eu
server=$1 admin=$2 prefix=${3:-} group=${4:-eureka-stream}

allow() { # USER, then what kafka-acls.sh wants to know
  user=$1
  shift
  kafka-acls.sh --bootstrap-server "$server" --command-config "$admin" --add --allow-principal "User:$user" "$@"
}

allow eureka-worker --operation Read --operation DescribeConfigs --topic "${prefix}audio.chunks"
allow eureka-worker --operation Read --group "$group"
for name in transcripts captions events alerts deadletters; do
  allow eureka-worker --operation Write --operation DescribeConfigs --topic "${prefix}audio.$name"
done
allow call-center --operation Write --topic "${prefix}audio.chunks"
for name in transcripts captions events alerts; do # dead letters hold audio: not for a dashboard
  allow dashboard --operation Read --topic "${prefix}audio.$name"
done
