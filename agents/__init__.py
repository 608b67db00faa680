"""Who proposes policies."""
