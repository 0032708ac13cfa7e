//! Ranks that `mpirun` started: numbers and words over MPI.
