#!/bin/sh
# Says which process it is.
echo "hello from $1"
