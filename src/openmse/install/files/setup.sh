#!/bin/sh
# The name and the place that the readers of the guide know: the same as "mse setup".
exec @BIN@/mse setup "$@"
