"""What all benchmarks share.

server      one private server for everybody       processes   workers: started, watched, ended
usage       what a stretch of work cost            report      tables, spreads, the machine
"""
