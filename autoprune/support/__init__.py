"""Small helpers that know nothing of pruning: files, text, checksums, devices."""
