"""What happens to an event: pure logic, and the thin Beam transforms around it.

Importing it changes one default of objsize in the process: docs/decisions/state-cache.md says which and why.
"""

import objsize

# Beam sizes each state that it caches and each row for BigQuery; by default that looks at all loaded modules each time.
objsize.default_settings.exclude_modules_globals = False
