from ecgscan_lite.models.preprocessing import as_rgb  # TODO placeholder until merge
