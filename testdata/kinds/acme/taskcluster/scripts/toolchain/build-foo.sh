#!/bin/sh
make foo
