#!/bin/sh
make bar
