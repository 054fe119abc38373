#!/bin/sh
# The name that the guide's readers type: the same as 'mse setup'.
exec mse setup "$@"
