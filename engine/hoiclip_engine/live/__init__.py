"""The live page: images, pairs, metrics and health of running sources over HTTP. Needs the extra `serve`."""
