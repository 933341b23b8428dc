"""From a Kafka record to windows of audio, and from results to Kafka records. Imports nothing of ours."""
