#!/bin/sh
# The least that each of our users needs on a Kafka with ACLs, topic by topic; run once, as a user who may alter them.
#   deploy/kafka/acls.sh BOOTSTRAP_SERVER ADMIN_PROPERTIES [TOPIC_PREFIX [GROUP_ID]]
# ADMIN_PROPERTIES is a Kafka client's property file (its password stands there, not on the command line).
# Users: eureka-worker runs `eureka worker`, eureka-operator `eureka doctor|deadletters|replay|erase|topics check`,
# call-center sends audio, dashboard reads results. `eureka topics create` is the administrator's. Nobody may read what
# call-center sends but worker and operator, nobody else may write results, and dead letters are read in the database.
set -eu
server=$1 admin=$2 prefix=${3:-} group=${4:-eureka-stream}

allow() { # USER, then what kafka-acls.sh wants to know
  user=$1
  shift
  kafka-acls.sh --bootstrap-server "$server" --command-config "$admin" --add --allow-principal "User:$user" "$@"
}

topics() { # names of ours, as options of kafka-acls.sh
  for name in "$@"; do printf ' --topic %saudio.%s' "$prefix" "$name"; done
}

results="transcripts captions events alerts" # dead letters hold audio: not for a dashboard
# shellcheck disable=SC2046,SC2086 # no topic has a space in its name
{
  allow eureka-worker --operation Read --operation DescribeConfigs $(topics chunks)
  allow eureka-worker --operation Read --group "$group"
  allow eureka-worker --operation Write --operation DescribeConfigs $(topics $results deadletters)
  allow eureka-operator --operation Read --operation Write --operation DescribeConfigs $(topics chunks)
  allow eureka-operator --operation Write --operation DescribeConfigs $(topics $results)
  allow eureka-operator --operation Describe --operation DescribeConfigs $(topics deadletters)
  allow eureka-operator --operation Describe --group "$group" # its lag; to join it would take partitions away
  allow call-center --operation Write $(topics chunks)
  allow dashboard --operation Read $(topics $results)
}
