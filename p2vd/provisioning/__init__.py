"""Makes the target: LVs and their tags, quarantine, removal."""
