"""The Eureka-Audio model: audio in, answers out. Imports nothing of ours outside this folder."""
