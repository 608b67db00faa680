"""Images for calibration, search and report."""
