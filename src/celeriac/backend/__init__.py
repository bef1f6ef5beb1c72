"""Where workers run: one protocol; behind it child processes, a fake, or elsewhere Deployments."""
