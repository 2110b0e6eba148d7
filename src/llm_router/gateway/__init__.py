"""The shell: sockets. The data plane that router and node share."""
