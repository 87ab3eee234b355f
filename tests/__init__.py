"""Tests; a package so that no folder of tests can hide the packages that they test."""
