"""Real FIX engines against a running venue: `make interop`.

- `__main__.py`: which engines and dictionaries, a line per scenario, the exit code.
- `engines.py`: what differs between the engines: settings files, programs, what their logs may say.
- `clients.py`: one engine as a child process, what it received, and what it found invalid.
- `quickfix_driver.py`, `jspurefix_driver.js`: the child processes.
- `proxy.py`: between a client and its gateway: cuts, and loses what one side says.
- `stage.py`: users, clients and a symbol for one scenario.
- `scenarios_*.py`: what the clients do, the same for every engine.
"""
