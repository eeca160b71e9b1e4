"""Tests of what runs on a device: real files, real unix sockets, real HTTPS."""
