"""Load: many users of several tenants, with bounds that it must keep."""
