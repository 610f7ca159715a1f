drop schema x402svm cascade;
