"""The processes: command line, settings, Faust app, the pipeline, batch scheduler, engine processes, telemetry."""
