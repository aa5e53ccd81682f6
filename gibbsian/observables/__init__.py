"""What can be observed of attention rows, beyond the statistics of `gibbsian.statistics`."""
