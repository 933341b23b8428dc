"""Deterministic worlds around the production pipeline: virtual clock, seeded faults.

`scenario` and `world`: one partition and one worker, also with logs that no producer should write. `cluster`: several
partitions and workers, rebalances, zombies, outages, little memory (`watch` looks on); `check` judges it, `broken`
proves that the judge sees.
"""
