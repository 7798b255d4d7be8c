"""The application: command line, configuration, sources, sinks, graph, tables and simulator."""
