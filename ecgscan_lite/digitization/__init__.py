"""From the image of an ECG to its leads in millivolts: grid, straightened page, traces, leads, scales."""
