mod samplers;
