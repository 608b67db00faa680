"""Small helpers that know nothing of pruning: files, strict JSON, journals, tensors on disk, text, checksums, devices."""
