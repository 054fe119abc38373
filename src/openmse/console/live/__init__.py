"""The living picture: one stream from each engine, rendered once a tick, fanned out to pages."""
